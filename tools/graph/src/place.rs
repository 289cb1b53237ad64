//! Where things stand that have an order and a least distance from one another, as near as possible to where each wants to be.

/// Where one wants to be, and how much.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Wish {
    pub(crate) at: f64,
    pub(crate) weight: f64,
}

/// Places with at least `distances[i]` between number `i` and the next one, and the least sum of weighted squares of how far each is from
/// where it wants to be. It is a regression on a rising sequence: neighbours who would come too near to one another form a block, which
/// stands where it suits all its members best.
pub(crate) fn spread(wishes: &[Wish], distances: &[f64]) -> Vec<f64> {
    struct Block {
        at: f64,
        weight: f64,
        members: usize,
    }
    let mut offsets = vec![0.0; wishes.len()];
    for index in 1..wishes.len() {
        offsets[index] = offsets[index - 1] + distances[index - 1];
    }
    let mut blocks: Vec<Block> = Vec::new();
    for (wish, offset) in wishes.iter().zip(&offsets) {
        let mut block = Block { at: wish.at - offset, weight: wish.weight, members: 1 };
        while let Some(before) = blocks.pop_if(|before| before.at > block.at) {
            let weight = before.weight + block.weight;
            let at = (before.at * before.weight + block.at * block.weight) / weight;
            block = Block { at, weight, members: before.members + block.members };
        }
        blocks.push(block);
    }
    let bases = blocks.iter().flat_map(|block| std::iter::repeat_n(block.at, block.members));
    bases.zip(offsets).map(|(base, offset)| base + offset).collect()
}

/// The same between two bounds, with equal distances, which are less than `distance` if there is no room for that.
pub(crate) fn spread_within(wanted: &[f64], distance: f64, first: f64, last: f64) -> Vec<f64> {
    let count = wanted.len();
    if count < 2 {
        return wanted.iter().map(|at| at.clamp(first, last)).collect();
    }
    let distance = distance.min((last - first) / (count - 1) as f64);
    let wishes: Vec<_> = wanted.iter().map(|at| Wish { at: at.clamp(first, last), weight: 1.0 }).collect();
    let mut places = spread(&wishes, &vec![distance; count - 1]);
    // A block at a bound may reach over it. Where there is no room to spare both ends are the same but for rounding.
    for (index, place) in places.iter_mut().enumerate() {
        let (before, behind) = (distance * index as f64, distance * (count - 1 - index) as f64);
        *place = place.max(first + before).min(last - behind);
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn places(wanted: &[f64], distance: f64) -> Vec<f64> {
        let wishes: Vec<_> = wanted.iter().map(|at| Wish { at: *at, weight: 1.0 }).collect();
        spread(&wishes, &vec![distance; wanted.len().saturating_sub(1)])
    }

    #[test]
    fn who_has_room_stands_where_it_wants_to() {
        assert_eq!(places(&[0.0, 20.0, 45.0], 10.0), [0.0, 20.0, 45.0]);
        assert_eq!(places(&[], 10.0), [0.0; 0]);
    }

    #[test]
    fn who_has_none_stands_around_the_middle() {
        assert_eq!(places(&[50.0, 50.0, 50.0], 10.0), [40.0, 50.0, 60.0]);
        let heavy = [Wish { at: 0.0, weight: 3.0 }, Wish { at: 0.0, weight: 1.0 }];
        assert_eq!(spread(&heavy, &[8.0]), [-2.0, 6.0]);
    }

    proptest! {
        #[test]
        fn distances_are_kept(wanted in proptest::collection::vec(-1000.0..1000.0, 0..30), distance in 0.0..50.0) {
            let free = places(&wanted, distance);
            prop_assert!(free.windows(2).all(|pair| pair[1] - pair[0] >= distance - 1e-6));
            let within = spread_within(&wanted, distance, 0.0, 100.0);
            let least = distance.min(100.0 / within.len().saturating_sub(1).max(1) as f64);
            prop_assert!(within.windows(2).all(|pair| pair[1] - pair[0] >= least - 1e-6));
            prop_assert!(within.iter().all(|at| (-1e-6..=100.0 + 1e-6).contains(at)));
        }
    }
}
