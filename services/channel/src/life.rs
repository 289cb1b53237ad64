//! Lives of the partition at the other end: it may be started anew while this one goes on.
//!
//! Init keeps a word for each peer: how often that was started anew, whether it is up, or that it has failed for good. Whoever uses a channel or an
//! endpoint has *acknowledged* one life of the peer; what was agreed on with it does not hold for the next one. So everything is refused
//! from the moment the word changes until the program says that it knows.

/// Bit of a life's word: the peer stays stopped. The bits below [`ABSENT`] are its generation.
pub const FAILED: u32 = 1 << 31;
/// Bit of a life's word: nobody is there in this life. The peer is not started yet, or is a guest that has ended.
pub const ABSENT: u32 = 1 << 30;

/// The generation in a life's word.
pub const fn generation(word: u32) -> u32 {
    word & !(FAILED | ABSENT)
}

/// Whether a life's word says that the peer is there.
pub const fn is_up(word: u32) -> bool {
    word & (FAILED | ABSENT) == 0
}

/// Whether who was there when the first word was read is gone when it is the second.
pub const fn is_gone(before: u32, word: u32) -> bool {
    generation(word) != generation(before) || is_up(before) && !is_up(word)
}

/// The peer is not the one that the program began to talk to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PeerError {
    /// It was started anew, or is about to be: this is its new generation. To be acknowledged.
    PeerRestarted {
        /// Counted from 0, the first life.
        generation: u32,
    },
    /// It has failed, and is not started anew.
    PeerFailed,
}

/// The life of the peer that the program has acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Life(u32);

impl Life {
    /// The life that the word tells of: whoever begins now knows no other.
    pub const fn new(word: u32) -> Self {
        Self(generation(word))
    }

    /// Its generation.
    pub const fn generation(self) -> u32 {
        self.0
    }

    /// Whether the word still tells of this life.
    pub const fn check(self, word: u32) -> Result<(), PeerError> {
        match (word & FAILED != 0, generation(word)) {
            (true, _) => Err(PeerError::PeerFailed),
            (false, generation) if generation != self.0 => Err(PeerError::PeerRestarted { generation }),
            (false, _) => Ok(()),
        }
    }

    /// From now on the peer is known to be in this generation.
    pub const fn acknowledge(&mut self, generation: u32) {
        self.0 = self::generation(generation);
    }
}

/// Where a reader of bytes learns of a new life: behind what was there when the word was seen to have changed. Bytes that the old life
/// left are so read before the error, those of the new one after it, unless it wrote before the reader looked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Boundary(Option<usize>);

impl Boundary {
    /// Bytes that may be read, of `available`, if the peer's life changed; 0 for none, so that it is time for the error.
    pub fn before(&mut self, available: usize) -> usize {
        *self.0.get_or_insert(available)
    }

    /// So many of them have been read.
    pub const fn pass(&mut self, bytes: usize) {
        if let Some(left) = &mut self.0 {
            *left = left.saturating_sub(bytes);
        }
    }

    /// The life was acknowledged.
    pub const fn forget(&mut self) {
        self.0 = None;
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_new_life_is_refused_until_it_is_acknowledged() {
        let mut life = Life::new(3);
        assert_eq!(life.check(3), Ok(()));
        let restarted = PeerError::PeerRestarted { generation: 4 };
        assert_eq!(life.check(4), Err(restarted));
        assert_eq!(life.check(4), Err(restarted));
        life.acknowledge(4);
        assert_eq!((life.check(4), life.generation()), (Ok(()), 4));
        // One that was acknowledged late is out of date already.
        assert_eq!(life.check(6), Err(PeerError::PeerRestarted { generation: 6 }));
        assert_eq!(life.check(6 | FAILED), Err(PeerError::PeerFailed));
        life.acknowledge(6 | FAILED);
        assert_eq!(life.check(6 | FAILED), Err(PeerError::PeerFailed));
        assert_eq!(life.check(6), Ok(()));
    }

    #[test]
    fn a_life_is_refused_no_longer_than_it_is_new() {
        let mut life = Life::new(1 | ABSENT);
        assert_eq!((life.check(1 | ABSENT), life.check(1)), (Ok(()), Ok(())));
        let restarted = PeerError::PeerRestarted { generation: 2 };
        assert_eq!((life.check(2 | ABSENT), life.check(2)), (Err(restarted), Err(restarted)));
        life.acknowledge(2);
        assert_eq!((life.check(2 | ABSENT), life.check(2)), (Ok(()), Ok(())));
        assert_eq!([2, 2 | ABSENT, 2 | FAILED].map(is_up), [true, false, false]);
        for (before, word, gone) in [
            (2, 2, false),
            (2, 3, true),
            (2, 3 | ABSENT, true),
            (3 | ABSENT, 3, false),
            (2, 2 | ABSENT, true),
            (2 | ABSENT, 2 | FAILED, false),
            (2, 2 | FAILED, true),
        ] {
            assert_eq!(is_gone(before, word), gone, "{before:#x} {word:#x}");
        }
    }

    #[test]
    fn what_the_old_life_left_is_read_before_the_error() {
        let mut boundary = Boundary::default();
        assert_eq!(boundary.before(10), 10);
        boundary.pass(8);
        // The new life has written 20 bytes meanwhile.
        assert_eq!(boundary.before(22), 2);
        boundary.pass(2);
        assert_eq!(boundary.before(20), 0);
        boundary.forget();
        assert_eq!(boundary.before(20), 20);
    }
}
