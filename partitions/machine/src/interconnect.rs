//! The interrupt bus: how messages find the processors that they are for.
//!
//! Each processor publishes how it is addressed and what it is busy with; a message is matched against that, and posted in
//! the mailboxes of its destinations. Nothing here waits, and nothing is owned by one thread.

use crate::devices::lapic::Address;
use crate::devices::message::{Deliver, DeliveryMode, Destination, InterruptMessage};
use crate::mailbox::{Events, Mailbox, Whereabouts};
use crate::posted::Posted;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use spin::Once;

/// Processors that one machine may have: sets of them are words.
pub const MAXIMUM: usize = 64;

/// Sets of processors whose threads something has to be done to, after something was posted for them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Away {
    /// To wake: they sleep, or must leave the guest.
    pub to_wake: u64,
    /// In the guest, where the processor is to look at its posted interrupts.
    pub to_notify: u64,
}

impl Away {
    const fn woken(wake: bool, index: usize) -> Self {
        Self { to_wake: (wake as u64) << index, to_notify: 0 }
    }

    /// Whether nothing has to be done to anybody.
    pub const fn is_empty(self) -> bool {
        self.to_wake | self.to_notify == 0
    }

    /// Both.
    pub const fn and(self, other: Self) -> Self {
        Self { to_wake: self.to_wake | other.to_wake, to_notify: self.to_notify | other.to_notify }
    }
}

/// A processor as the others see it.
#[derive(Debug)]
struct Station {
    mailbox: Mailbox,
    /// Where interrupts are posted, if its local APIC is virtualized by the processor.
    posted: Once<Posted>,
    /// [`Address`] as a word.
    address: AtomicU64,
    /// Processor priority.
    priority: AtomicU8,
}

/// All processors of a machine.
#[derive(Debug)]
pub struct Interconnect {
    stations: Vec<Station>,
    /// The 8259A's output, which is wired to every processor's LINT0 pin.
    pin: AtomicBool,
    /// Counts the changes of how processors are addressed.
    moves: AtomicU64,
    /// The processor that the last interrupt with lowest-priority delivery went to, so that equals take turns.
    last_lowest: AtomicUsize,
}

impl Interconnect {
    /// `count` processors (1 to [`MAXIMUM`]; others are moved to the nearest), which have not published anything yet.
    pub fn new(count: usize) -> Self {
        let station = |_| Station {
            mailbox: Mailbox::default(),
            posted: Once::new(),
            address: AtomicU64::new(Address::default().to_word()),
            priority: AtomicU8::new(0),
        };
        Self {
            stations: (0..count.clamp(1, MAXIMUM)).map(station).collect(),
            pin: AtomicBool::new(false),
            moves: AtomicU64::new(0),
            last_lowest: AtomicUsize::new(0),
        }
    }

    /// How many processors there are.
    pub fn count(&self) -> usize {
        self.stations.len()
    }

    /// A processor's mailbox.
    #[inline]
    pub fn mailbox(&self, processor: usize) -> Option<&Mailbox> {
        Some(&self.stations.get(processor)?.mailbox)
    }

    /// A processor says where interrupts can be posted for it.
    pub fn publish_posted(&self, processor: usize, posted: Posted) {
        if let Some(station) = self.stations.get(processor) {
            station.posted.call_once(|| posted);
        }
    }

    /// Whether all threads sleep, and nothing has arrived for any.
    pub fn is_quiet(&self) -> bool {
        self.stations.iter().all(|station| station.mailbox.is_quiet())
    }

    /// A processor says how it is addressed from now on. Returns the level of its LINT0 pin, which it may have missed.
    pub fn publish_address(&self, processor: usize, address: Address) -> bool {
        if let Some(station) = self.stations.get(processor) {
            // Sequentially consistent with `set_pin`: either it sees the address, or this the pin.
            let before = station.address.swap(address.to_word(), Ordering::SeqCst);
            if before != address.to_word() {
                self.moves.fetch_add(1, Ordering::Release);
            }
        }
        self.pin()
    }

    /// Changes whenever a processor is addressed in another way.
    #[inline]
    pub fn moves(&self) -> u64 {
        self.moves.load(Ordering::Acquire)
    }

    /// The one processor at which a message from a device does nothing but post its vector, as long as [`Self::moves`] stays the same.
    pub fn posts_at(&self, message: &InterruptMessage) -> Option<usize> {
        let is_plain = matches!(message.mode, DeliveryMode::Fixed | DeliveryMode::LowestPriority);
        if !is_plain || message.level_triggered || message.vector < 16 {
            return None;
        }
        let stations = self.stations.iter().enumerate();
        let mut destinations =
            stations.filter(|(index, station)| address(station).matches(*index as u32, message.destination, false));
        let (index, station) = destinations.next()?;
        let address = address(station);
        let posts = station.posted.get().is_some() && address.posts && address.takes_vectors;
        (posts && destinations.next().is_none()).then_some(index)
    }

    /// A processor says at what priority it runs.
    #[inline]
    pub fn publish_priority(&self, processor: usize, priority: u8) {
        if let Some(station) = self.stations.get(processor) {
            station.priority.store(priority, Ordering::Relaxed);
        }
    }

    /// The 8259A's output.
    pub fn pin(&self) -> bool {
        self.pin.load(Ordering::SeqCst)
    }

    /// Posts events to the processors of a set.
    pub fn post(&self, processors: u64, events: Events) -> Away {
        self.for_each(|index, station| Away::woken(processors >> index & 1 != 0 && station.mailbox.post(events), index))
    }

    fn for_each(&self, mut act: impl FnMut(usize, &Station) -> Away) -> Away {
        self.stations.iter().enumerate().fold(Away::default(), |away, (index, station)| away.and(act(index, station)))
    }

    /// Carries a message from a processor, or from a device, to its destinations.
    pub fn send(&self, sender: Option<usize>, message: &InterruptMessage) -> Away {
        match (message.mode, message.destination) {
            (DeliveryMode::LowestPriority, _) => self.send_lowest(sender, message),
            // Identifiers are numbers.
            (_, Destination::Physical(identifier)) => {
                let index = identifier as usize;
                self.stations.get(index).map_or(Away::default(), |station| accept(station, index, message))
            }
            (_, destination) => self.for_each(|index, station| {
                if address(station).matches(index as u32, destination, sender == Some(index)) {
                    accept(station, index, message)
                } else {
                    Away::default()
                }
            }),
        }
    }

    fn send_lowest(&self, sender: Option<usize>, message: &InterruptMessage) -> Away {
        let count = self.stations.len();
        let after_last = self.last_lowest.load(Ordering::Relaxed) + 1;
        let best = (0..count)
            .map(|turn| (turn, (after_last + turn) % count))
            .filter_map(|(turn, index)| Some((turn, index, self.stations.get(index)?)))
            .filter(|(_, index, station)| {
                let address = address(station);
                address.takes_vectors && address.matches(*index as u32, message.destination, sender == Some(*index))
            })
            .min_by_key(|(turn, _, station)| (station.priority.load(Ordering::Relaxed) >> 4, *turn));
        let Some((_, index, station)) = best else {
            return Away::default();
        };
        self.last_lowest.store(index, Ordering::Relaxed);
        accept(station, index, message)
    }

    /// The 8259A's output changed: processors whose LINT0 pin is open look at it.
    fn set_pin(&self, asserted: bool) -> Away {
        self.pin.store(asserted, Ordering::SeqCst);
        self.for_each(|index, station| {
            Away::woken(address(station).hears_pin && station.mailbox.post(Events::PIN), index)
        })
    }
}

fn address(station: &Station) -> Address {
    Address::from_word(station.address.load(Ordering::SeqCst))
}

/// Posts a message for processor `index`.
fn accept(station: &Station, index: usize, message: &InterruptMessage) -> Away {
    let mailbox = &station.mailbox;
    let woken = match message.mode {
        DeliveryMode::Fixed | DeliveryMode::LowestPriority => {
            // The end of a level-triggered interrupt concerns the monitor, and so do errors.
            if let Some(posted) = station.posted.get()
                && !message.level_triggered
                && message.vector >= 16
                && address(station).posts
            {
                return post(station, posted, index, message.vector);
            }
            mailbox.request(message.vector, message.level_triggered)
        }
        DeliveryMode::NonMaskable => mailbox.post(Events::NMI),
        DeliveryMode::External => mailbox.post(Events::EXTERNAL),
        DeliveryMode::Init => mailbox.initialise(),
        DeliveryMode::Startup => mailbox.start_up(message.vector),
        DeliveryMode::SystemManagement => false,
    };
    Away::woken(woken, index)
}

/// Posts a vector where the processor itself takes it, if its local APIC takes vectors.
fn post(station: &Station, posted: &Posted, index: usize, vector: u8) -> Away {
    if !address(station).takes_vectors || !posted.request(vector) {
        return Away::default();
    }
    match station.mailbox.whereabouts() {
        Whereabouts::InGuest => Away { to_wake: 0, to_notify: 1 << index },
        Whereabouts::Asleep => Away::woken(station.mailbox.post(Events::POSTED), index),
        // It looks at what is posted before it sleeps, and the kernel does before it enters the guest.
        Whereabouts::Awake => Away::default(),
    }
}

/// Carries interrupts of the shared devices, and notes who must be woken when the devices have been left.
pub struct Courier<'a> {
    interconnect: &'a Interconnect,
    /// The processors to wake, or to notify.
    pub away: Away,
}

impl<'a> Courier<'a> {
    /// One that has carried nothing yet.
    pub const fn new(interconnect: &'a Interconnect) -> Self {
        Self { interconnect, away: Away { to_wake: 0, to_notify: 0 } }
    }
}

impl Deliver for Courier<'_> {
    // Apart, so that the many accesses that interrupt nobody stay short.
    #[inline(never)]
    fn deliver(&mut self, message: InterruptMessage) {
        self.away = self.away.and(self.interconnect.send(None, &message));
    }

    #[inline(never)]
    fn external_interrupt(&mut self, asserted: bool) {
        self.away = self.away.and(self.interconnect.set_pin(asserted));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::lapic::LocalApic;
    use alloc::vec;

    fn three() -> Interconnect {
        let interconnect = Interconnect::new(3);
        for index in 0..3 {
            let mut apic = LocalApic::new(index, 0);
            apic.write_memory(0xf0, 0x1ff, 0);
            apic.write_memory(0xd0, 0x0100_0000 << index, 0);
            interconnect.publish_address(index as usize, apic.address());
            assert!(interconnect.mailbox(index as usize).is_some_and(Mailbox::sleep));
        }
        interconnect
    }

    fn message(destination: Destination, mode: DeliveryMode, vector: u8) -> InterruptMessage {
        InterruptMessage { destination, mode, vector, level_triggered: false }
    }

    fn pending(interconnect: &Interconnect) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        for station in &interconnect.stations {
            let mut vectors = Vec::new();
            station.mailbox.take();
            station.mailbox.take_vectors(|vector, _| vectors.push(vector));
            assert!(station.mailbox.sleep());
            all.push(vectors);
        }
        all
    }

    #[test]
    fn shorthands() {
        let interconnect = three();
        let to_others = message(Destination::Others, DeliveryMode::Fixed, 0x40);
        assert_eq!(interconnect.send(Some(1), &to_others).to_wake, 0b101);
        assert_eq!(pending(&interconnect), [vec![0x40], vec![], vec![0x40]]);
        let send = |sender, destination, vector| {
            interconnect.send(sender, &message(destination, DeliveryMode::Fixed, vector)).to_wake
        };
        assert_eq!(send(Some(1), Destination::Own, 0x41), 0b010);
        assert_eq!(send(None, Destination::Physical(9), 0x41), 0);
        assert_eq!(send(None, Destination::Physical(2), 0x42), 0b100);
        assert_eq!(send(None, Destination::Logical(6), 0x43), 0, "awake");
        assert_eq!(pending(&interconnect), [vec![], vec![0x41, 0x43], vec![0x42, 0x43]]);
    }

    #[test]
    fn lowest_priority_takes_turns_and_respects_priority() {
        let interconnect = three();
        let to_all = message(Destination::Logical(7), DeliveryMode::LowestPriority, 0x50);
        let mut order: Vec<_> = (0..3).map(|_| interconnect.send(None, &to_all).to_wake).collect();
        order.sort_unstable();
        assert_eq!(order, [1, 2, 4]);
        pending(&interconnect);
        interconnect.publish_priority(0, 0x80);
        interconnect.publish_priority(2, 0x80);
        for _ in 0..3 {
            assert_eq!(interconnect.send(None, &to_all).to_wake, 2);
            pending(&interconnect);
        }
    }

    #[test]
    fn the_pin_is_heard_where_it_is_open() {
        let interconnect = three();
        let mut courier = Courier::new(&interconnect);
        courier.external_interrupt(true);
        assert_eq!(courier.away, Away::default(), "LINT0 is masked everywhere");
        let mut boot = LocalApic::new(0, 0);
        boot.set_virtual_wire();
        assert!(interconnect.publish_address(0, boot.address()), "and learns of it when it opens");
        courier.external_interrupt(false);
        assert_eq!(courier.away.to_wake, 1);
    }

    #[test]
    fn what_can_be_posted_is_posted() {
        let interconnect = three();
        let posted = Posted::for_test();
        interconnect.publish_posted(1, posted.clone());
        let open = Address { takes_vectors: true, posts: true, ..Address::default() };
        interconnect.publish_address(1, open);
        let to_one = |vector| message(Destination::Physical(1), DeliveryMode::Fixed, vector);
        let mailbox = interconnect.mailbox(1).unwrap();
        assert_eq!(interconnect.send(None, &to_one(0x41)).to_wake, 2, "it sleeps");
        assert_eq!(interconnect.send(None, &to_one(0x42)), Away::default(), "it has been told");
        assert_eq!(mailbox.take(), Events::POSTED);
        assert_eq!(posted.take().collect::<Vec<_>>(), [0x41, 0x42]);
        assert!(mailbox.enter_guest());
        assert_eq!(interconnect.send(None, &to_one(0x43)), Away { to_wake: 0, to_notify: 2 });
        let level = InterruptMessage { level_triggered: true, ..to_one(0x44) };
        let moves = interconnect.moves();
        assert_eq!(interconnect.posts_at(&to_one(0x44)), Some(1));
        assert_eq!(interconnect.posts_at(&level), None);
        assert_eq!(interconnect.posts_at(&to_one(0xf)), None);
        for destination in [Destination::Physical(0), Destination::Physical(9), Destination::All] {
            assert_eq!(
                interconnect.posts_at(&InterruptMessage { destination, ..to_one(0x44) }),
                None,
                "{destination:?}"
            );
        }
        assert_eq!(interconnect.send(None, &level).to_wake, 2, "it must leave the guest");
        interconnect.publish_address(1, Address { takes_vectors: false, ..open });
        assert_eq!(posted.take().collect::<Vec<_>>(), [0x43]);
        assert_eq!(interconnect.send(None, &to_one(0x45)), Away::default(), "dropped");
        assert_eq!((interconnect.posts_at(&to_one(0x45)), interconnect.moves()), (None, moves + 1));
        assert!(posted.take().next().is_none());
    }

    #[test]
    fn count_is_bounded() {
        assert_eq!(Interconnect::new(0).count(), 1);
        assert_eq!(Interconnect::new(1000).count(), MAXIMUM);
    }
}
