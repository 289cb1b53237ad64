//! A set of interrupt vectors, as the IRR, ISR and TMR registers hold it.

/// 256 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VectorSet {
    words: [u64; 4],
}

impl VectorSet {
    /// Adds a vector. Whether it was new.
    pub fn insert(&mut self, vector: u8) -> bool {
        let [word, bit] = Self::place(vector);
        let Some(word) = self.words.get_mut(word as usize) else {
            return false;
        };
        let was = *word;
        *word |= bit;
        was != *word
    }

    /// Takes a vector out.
    pub fn remove(&mut self, vector: u8) {
        let [word, bit] = Self::place(vector);
        if let Some(word) = self.words.get_mut(word as usize) {
            *word &= !bit;
        }
    }

    /// Whether the set has this vector.
    pub fn contains(&self, vector: u8) -> bool {
        let [word, bit] = Self::place(vector);
        self.words.get(word as usize).is_some_and(|word| word & bit != 0)
    }

    /// The highest vector; 0, which no interrupt can have, if the set is empty.
    pub fn highest(&self) -> u8 {
        let [zero, one, two, three] = self.words;
        // Linux's busiest vectors (timer, reschedule) are in the last word.
        if three != 0 {
            (255 - three.leading_zeros()) as u8
        } else if two != 0 {
            (191 - two.leading_zeros()) as u8
        } else if one != 0 {
            (127 - one.leading_zeros()) as u8
        } else if zero != 0 {
            (63 - zero.leading_zeros()) as u8
        } else {
            0
        }
    }

    /// The set as words.
    pub const fn words(&self) -> [u64; 4] {
        self.words
    }

    /// One of the eight 32-bit registers that show the set.
    pub fn register(&self, index: u32) -> u32 {
        let word = self.words.get(index as usize / 2).copied().unwrap_or(0);
        (word >> (32 * (index & 1))) as u32
    }

    const fn place(vector: u8) -> [u64; 2] {
        [vector as u64 >> 6, 1 << (vector & 63)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn behaves_like_a_set(steps in proptest::collection::vec((any::<bool>(), 1u8..=255), 0..200)) {
            let mut set = VectorSet::default();
            let mut model = BTreeSet::new();
            for (insert, vector) in steps {
                if insert {
                    prop_assert_eq!(set.insert(vector), model.insert(vector));
                } else {
                    set.remove(vector);
                    model.remove(&vector);
                }
                prop_assert_eq!(set.contains(vector), model.contains(&vector));
                prop_assert_eq!(set.highest(), model.last().copied().unwrap_or(0));
                let shown = set.register(u32::from(vector) / 32) >> (vector % 32) & 1 == 1;
                prop_assert_eq!(shown, insert);
            }
        }
    }
}
