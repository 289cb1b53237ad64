//! Which processors may still use a translation that was removed, and how they are made to forget it.
//!
//! When [`shoot_down`] returns, no processor can use an entry that was removed from the page tables before the call, so
//! the memory behind it may change hands. Processors that cannot use it are left alone. The kernel lock is held by whoever
//! removes, and by whoever enters or leaves a space; guests run without it.
//!
//! # Native spaces
//! Loading CR3 forgets the translations of the space before (no PCIDs are used; the kernel's own are global and never
//! change). So exactly the processors on which the space is loaded hold translations of it. They are interrupted and load CR3
//! again. What is loaded is known to the lock's holder, since it changes under the lock ([`Processor::native_root`]).
//!
//! # Guest spaces
//! A processor tags what it caches of a guest with the EPT pointer and the VPID (SDM vol. 3, 29.4.1), so that it outlives the
//! stay in the guest. But it is used inside a guest of that space only. So there are three kinds of processors:
//! - *Inside*: in a guest of the space, or on the way in or out ([`Processor::guest_root`]). They are interrupted, and
//!   execute INVEPT for the space, which forgets entries and paging-structure caches under all VPIDs (29.4.3.1).
//! - *Outside*: they may hold the translation, but cannot use it before they enter. They lose their bit in the space's
//!   [`Freshness`], and a processor without it executes INVEPT as it enters.
//! - Never been inside: they have no bit to lose.
//!
//! # Why no entry slips through
//! `Run` takes the lock to look up the guest processor anyway. In that one critical section the processor is noted as
//! inside *and* looks at its bit. A remover that had the lock before has taken the bit away: the processor finds that, and
//! invalidates. A remover that gets the lock later finds the processor inside: it asks and waits. From then on the processor
//! executes with interrupts off until the hardware is in the guest, where the pending interrupt is an exit before the
//! first instruction. At the exit it is still noted as inside, and can neither get the lock nor re-enter before it has answered.
//! Without the lock each entry would have to publish where it goes, put a full fence, and then look.
//!
//! # Requests and answers
//! There is one remover at a time, so one word per processor is enough: the [`Mailbox`]. The remover writes the request
//! (release) after it has changed the tables, and interrupts; the other processor reads it (acquire), does it, and writes 0 (release);
//! the remover reads that (acquire). A processor that waits for the lock answers from the waiting loop, else the two would
//! wait for each other. Processors are interrupted first and waited for afterwards, so that they work at the same time.

use crate::sync::{AtomicU64, Cell, Ordering, relax};
use bulkhead_abi::PAGE_SIZE;

/// What a processor is asked to do. Roots and addresses are multiples of the page size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    /// Forget the translations of this native space, which is loaded.
    ForgetNative(u64),
    /// Forget the translations of the guest space with this root.
    ForgetGuest(u64),
    /// Let go of the guest processor at this address.
    Release(u64),
}

impl Request {
    /// As one word, never 0: what to do in the bits below the page size.
    pub(crate) const fn word(self) -> u64 {
        match self {
            Self::ForgetNative(root) => root | 1,
            Self::ForgetGuest(root) => root | 2,
            Self::Release(address) => address | 3,
        }
    }

    pub(crate) const fn from_word(word: u64) -> Option<Self> {
        let argument = word & !(PAGE_SIZE - 1);
        match word % PAGE_SIZE {
            1 => Some(Self::ForgetNative(argument)),
            2 => Some(Self::ForgetGuest(argument)),
            3 => Some(Self::Release(argument)),
            _ => None,
        }
    }
}

/// Where a processor finds what another one asks of it. Zero: nothing.
#[derive(Default)]
#[repr(transparent)]
pub struct Mailbox(AtomicU64);

impl Mailbox {
    /// Asks. The mailbox must be empty, which the kernel lock sees to.
    fn post(&self, request: Request) {
        self.0.store(request.word(), Ordering::Release);
    }

    /// Does what is asked, if anything is: for the mailbox's own processor.
    #[inline]
    pub fn answer(&self, perform: impl FnOnce(Request)) {
        let word = self.0.load(Ordering::Acquire);
        if word != 0 {
            if let Some(request) = Request::from_word(word) {
                perform(request);
            }
            self.0.store(0, Ordering::Release);
        }
    }

    fn is_empty(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }
}

/// The processors that have nothing outdated cached of a guest space, one bit each. Zero: a new space, of whose predecessor at
/// the same address any processor may hold something.
#[derive(Default)]
#[repr(transparent)]
pub struct Freshness(Cell<u64>);

impl Freshness {
    /// A processor enters a guest of the space: it runs `forget` first if what it has cached may be outdated.
    pub fn enter(&self, processor: u32, forget: impl FnOnce()) {
        if self.0.get() & bit(processor) == 0 {
            forget();
            self.0.set(self.0.get() | bit(processor));
        }
    }
}

const fn bit(processor: u32) -> u64 {
    1 << (processor % u64::BITS)
}

/// A processor, for one that removes translations; the kernel lock is held.
pub trait Processor {
    /// Its number, below 64.
    fn number(&self) -> u32;
    /// Root of the native space that is loaded.
    fn native_root(&self) -> u64;
    /// Root of the space of the guest that it is in, or on the way into or out of; 0 for none.
    fn guest_root(&self) -> u64;
    /// Where it is asked.
    fn mailbox(&self) -> &Mailbox;
    /// Interrupts it, so that it looks into its mailbox.
    fn interrupt(&self);
    /// Does what is asked; to be called on this processor.
    fn perform(&self, request: Request);
}

/// Makes every processor that can use them forget removed translations of the native space with this root.
pub fn shoot_down_native<'a, P: Processor + 'a>(all: impl Iterator<Item = &'a P> + Clone, own: &P, root: u64) {
    ask(all, own, |processor| processor.native_root() == root, Request::ForgetNative(root));
}

/// Makes every processor that can use them forget removed translations of the guest space with this root, now or before it
/// next could.
pub fn shoot_down_guest<'a, P: Processor + 'a>(
    all: impl Iterator<Item = &'a P> + Clone,
    own: &P,
    root: u64,
    freshness: &Freshness,
) {
    let is_inside = |processor: &P| processor.guest_root() == root;
    let inside = all.clone().filter(|processor| is_inside(processor));
    freshness.0.set(inside.fold(0, |bits, processor| bits | bit(processor.number())));
    ask(all, own, is_inside, Request::ForgetGuest(root));
}

/// Has processors do something, and returns when they have done it.
pub fn ask<'a, P: Processor + 'a>(
    all: impl Iterator<Item = &'a P> + Clone,
    own: &P,
    is_concerned: impl Fn(&P) -> bool,
    request: Request,
) {
    let others = all.filter(|other| other.number() != own.number());
    for other in others.clone().filter(|other| is_concerned(other)) {
        other.mailbox().post(request);
        other.interrupt();
    }
    if is_concerned(own) {
        own.perform(request);
    }
    // Whoever was not asked has an empty mailbox.
    for other in others {
        while !other.mailbox().is_empty() {
            relax();
        }
    }
}
