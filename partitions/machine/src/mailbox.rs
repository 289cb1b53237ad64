//! The mailbox of a guest processor: how other processors, and devices, reach the thread that runs it.
//!
//! Everything that is sent is a bit in one word, beside the set of requested vectors; bits in the same word say that the
//! thread sleeps or is in the guest, and must be woken. So a poster learns from its one atomic operation whether it has to
//! wake the thread, and a thread that goes to sleep learns whether there is still something to do: no wake-up is lost, and
//! none is sent twice.
//!
//! Where the processor delivers interrupts by itself, a vector goes another way, by its [`Posted`](crate::posted::Posted) set;
//! the mailbox only tells where the thread is.

use crate::atomics::{AtomicU64, Ordering};

/// What arrived for a processor, beside vectors.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Events(u64);

impl Events {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Vectors; [`Mailbox::take_vectors`] has them.
    pub const VECTORS: Self = Self(1 << 0);
    /// An NMI.
    pub const NMI: Self = Self(1 << 1);
    /// INIT: reset the processor, and let it wait for start-up. Comes before a start-up that is there as well.
    pub const INIT: Self = Self(1 << 2);
    const STARTUP: Self = Self(1 << 3);
    /// The 8259A's output changed.
    pub const PIN: Self = Self(1 << 4);
    /// A message with external delivery mode: the vector comes from the 8259A.
    pub const EXTERNAL: Self = Self(1 << 5);
    /// A device wants to be told the time earlier, or later, than it said last.
    pub const TIME: Self = Self(1 << 6);
    /// The machine has ended.
    pub const END: Self = Self(1 << 7);
    /// Vectors are posted; for a thread that slept.
    pub const POSTED: Self = Self(1 << 16);
    /// The thread must be woken for the next event.
    const SLEEPING: u64 = 1 << 63;
    /// The thread is in the guest, and must leave it for the next event.
    const IN_GUEST: u64 = 1 << 62;
    const PAGE_SHIFT: u32 = 8;
    const PAGE: u64 = 0xff << Self::PAGE_SHIFT;

    /// Whether all of these are among them.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The 4-KiB page at which the processor is to start, if it waits for start-up.
    pub const fn startup(self) -> Option<u8> {
        if self.contains(Self::STARTUP) { Some((self.0 >> Self::PAGE_SHIFT) as u8) } else { None }
    }
}

/// Where a processor's thread is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whereabouts {
    /// It executes the monitor's code, and looks at the mailbox before it does anything else.
    Awake,
    /// It sleeps, or will.
    Asleep,
    /// It is in the guest, or will be.
    InGuest,
}

/// Whether a thread that was so has to be woken for what was posted first.
const fn is_away(before: u64) -> bool {
    before == Events::SLEEPING || before == Events::IN_GUEST
}

/// A processor's mailbox. Any thread may post; the thread that runs the processor takes.
#[derive(Debug)]
pub struct Mailbox {
    /// [`Events`], and whether the thread sleeps.
    events: AtomicU64,
    /// Requested vectors, 64 a word.
    vectors: [AtomicU64; 4],
    /// Those of them that are level-triggered.
    level: [AtomicU64; 4],
}

impl Default for Mailbox {
    fn default() -> Self {
        let words = || core::array::from_fn(|_| AtomicU64::new(0));
        Self { events: AtomicU64::new(0), vectors: words(), level: words() }
    }
}

impl Mailbox {
    /// Posts events. Whether the caller must wake the thread.
    #[inline]
    pub fn post(&self, events: Events) -> bool {
        is_away(self.events.fetch_or(events.0, Ordering::AcqRel))
    }

    /// Requests an interrupt. Whether the caller must wake the thread.
    #[inline]
    pub fn request(&self, vector: u8, level_triggered: bool) -> bool {
        let (word, bit) = (usize::from(vector >> 6), 1 << (vector & 63));
        let (Some(vectors), Some(level)) = (self.vectors.get(word), self.level.get(word)) else {
            return false;
        };
        if level_triggered {
            level.fetch_or(bit, Ordering::Relaxed);
        }
        vectors.fetch_or(bit, Ordering::Release);
        self.post(Events::VECTORS)
    }

    /// INIT, which makes a start-up that has not been taken yet void. Whether the caller must wake the thread.
    pub fn initialise(&self) -> bool {
        self.replace(Events::STARTUP.0 | Events::PAGE, Events::INIT.0)
    }

    /// A start-up interrupt for page number `page`. Whether the caller must wake the thread.
    pub fn start_up(&self, page: u8) -> bool {
        self.replace(Events::PAGE, Events::STARTUP.0 | u64::from(page) << Events::PAGE_SHIFT)
    }

    fn replace(&self, clear: u64, set: u64) -> bool {
        let mut now = self.events.load(Ordering::Relaxed);
        loop {
            let new = now & !clear | set;
            match self.events.compare_exchange_weak(now, new, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(before) => return is_away(before),
                Err(other) => now = other,
            }
        }
    }

    /// The thread is about to sleep. False, and it must not, if there is something to take.
    #[inline]
    pub fn sleep(&self) -> bool {
        self.events.compare_exchange(0, Events::SLEEPING, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// The thread is about to enter the guest. False, and it must not, if there is something to take.
    #[inline]
    pub fn enter_guest(&self) -> bool {
        self.events.compare_exchange(0, Events::IN_GUEST, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// The thread is awake again, and has taken nothing yet: whoever posts from now on need not wake it, itself above all.
    #[inline]
    pub fn awake(&self) {
        self.events.fetch_and(!Events::SLEEPING, Ordering::AcqRel);
    }

    /// Where the thread is. Its next [`sleep`](Self::sleep) or [`enter_guest`](Self::enter_guest) is ordered after everything
    /// that the caller did before: an operation that changes nothing, but stands in the word's order of changes.
    #[inline]
    pub fn whereabouts(&self) -> Whereabouts {
        match self.events.fetch_add(0, Ordering::AcqRel) {
            events if events & Events::IN_GUEST != 0 => Whereabouts::InGuest,
            events if events & Events::SLEEPING != 0 => Whereabouts::Asleep,
            _ => Whereabouts::Awake,
        }
    }

    /// Whether the thread sleeps and nothing has arrived for it.
    pub fn is_quiet(&self) -> bool {
        self.events.load(Ordering::Acquire) == Events::SLEEPING
    }

    /// The thread is awake again: takes what has arrived.
    #[inline]
    pub fn take(&self) -> Events {
        Events(self.events.swap(0, Ordering::AcqRel) & !(Events::SLEEPING | Events::IN_GUEST))
    }

    /// Takes the requested vectors: hands each to `request`, with whether it is level-triggered.
    pub fn take_vectors(&self, mut request: impl FnMut(u8, bool)) {
        for (base, (vectors, level)) in (0u8..4).zip(self.vectors.iter().zip(&self.level)) {
            if vectors.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let mut taken = vectors.swap(0, Ordering::Acquire);
            let levels = level.fetch_and(!taken, Ordering::Relaxed);
            while taken != 0 {
                let bit = taken.trailing_zeros() as u8;
                taken &= taken - 1;
                request(base << 6 | bit, levels >> bit & 1 != 0);
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn vectors(mailbox: &Mailbox) -> Vec<(u8, bool)> {
        let mut taken = Vec::new();
        mailbox.take_vectors(|vector, level| taken.push((vector, level)));
        taken
    }

    #[test]
    fn a_sleeper_is_woken_once() {
        let mailbox = Mailbox::default();
        assert!(!mailbox.request(0x30, false), "it is awake");
        assert!(!mailbox.sleep(), "there is something to take");
        assert_eq!(mailbox.take(), Events::VECTORS);
        assert_eq!(vectors(&mailbox), [(0x30, false)]);
        assert!(mailbox.sleep());
        assert!(mailbox.request(0xff, true));
        assert!(!mailbox.request(0x41, false));
        assert!(!mailbox.post(Events::NMI));
        mailbox.awake();
        assert!(mailbox.whereabouts() == Whereabouts::Awake && !mailbox.post(Events::PIN));
        let events = mailbox.take();
        assert!(events.contains(Events::NMI) && events.contains(Events::VECTORS) && events.startup().is_none());
        assert_eq!(vectors(&mailbox), [(0x41, false), (0xff, true)]);
        assert_eq!(mailbox.take(), Events::NONE);
    }

    #[test]
    fn init_comes_before_the_startup_that_follows_it() {
        let mailbox = Mailbox::default();
        assert!(mailbox.sleep());
        assert!(mailbox.start_up(0x12));
        assert!(!mailbox.initialise());
        let events = mailbox.take();
        assert!(events.contains(Events::INIT) && events.startup().is_none(), "the start-up was for the time before");
        mailbox.initialise();
        mailbox.start_up(0x9a);
        mailbox.start_up(0x80);
        let events = mailbox.take();
        assert!(events.contains(Events::INIT));
        assert_eq!(events.startup(), Some(0x80));
    }
}
