//! Whether somebody is at the other end of a port, and what the driver knows of it.
//!
//! However often the other end changes while the driver has no buffer for messages, it is a state of fixed size: what the driver was
//! told last, and whether that still holds.

use bulkhead_channel::Boundary;

/// What the driver was told last.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Told {
    /// Nothing.
    #[default]
    Nothing,
    /// The other end is open.
    Open,
    /// It is closed, and is told to be open no earlier than at this time.
    Closed(u64),
}

/// The other end.
#[derive(Debug)]
pub(crate) struct Line {
    /// Somebody is there.
    is_up: bool,
    told: Told,
    /// Who was there when the driver was told `Open` is gone.
    is_cut: bool,
    /// How many bytes of the one who is gone are still to be delivered.
    left: Boundary,
}

impl Line {
    /// With somebody at the other end, of whom the driver knows nothing.
    pub(crate) fn new() -> Self {
        Self { is_up: true, told: Told::Nothing, is_cut: false, left: Boundary::default() }
    }

    /// The driver knows nothing any more.
    pub(crate) fn forget(&mut self) {
        *self = Self { is_up: self.is_up, ..Self::new() };
    }

    /// Who was at the other end is gone, with so many bytes in the ring.
    pub(crate) fn cut(&mut self, available: usize) {
        self.is_up = false;
        if self.told == Told::Open && !self.is_cut {
            self.is_cut = true;
            let _ = self.left.before(available);
        }
    }

    /// Somebody is at the other end.
    pub(crate) fn connect(&mut self) {
        self.is_up = true;
    }

    /// Bytes that may be delivered now, of `available`: the driver first learns of an end, then gets the bytes of the next one.
    pub(crate) fn deliverable(&mut self, available: usize) -> usize {
        match self.told {
            Told::Open if self.is_cut => self.left.before(available).min(available),
            Told::Closed(_) if self.is_up => 0,
            _ => available,
        }
    }

    /// So many have been.
    pub(crate) fn delivered(&mut self, bytes: usize) {
        if self.is_cut {
            self.left.pass(bytes);
        }
    }

    /// Whether what the guest writes is for somebody who is gone.
    pub(crate) fn is_dead(&self) -> bool {
        self.is_cut || matches!(self.told, Told::Closed(_))
    }

    /// What the driver is to be told, once it has got all bytes that it takes: that the other end is open, or that it is not.
    pub(crate) fn due(&self, now: u64) -> Option<bool> {
        match self.told {
            Told::Open => self.is_cut.then_some(false),
            Told::Closed(until) => (self.is_up && now >= until).then_some(true),
            Told::Nothing => self.is_up.then_some(true),
        }
    }

    /// When the driver is to be told that the other end is open, if only time has to pass.
    pub(crate) fn reopens(&self) -> Option<u64> {
        match self.told {
            Told::Closed(until) if self.is_up => Some(until),
            _ => None,
        }
    }

    /// The driver was told that the other end is closed, and will not be told otherwise before then.
    pub(crate) fn closed(&mut self, until: u64) {
        (self.told, self.is_cut) = (Told::Closed(until), false);
        self.left.forget();
    }

    /// The driver was told that the other end is open.
    pub(crate) fn opened(&mut self) {
        self.told = Told::Open;
    }
}
