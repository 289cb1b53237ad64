//! The interrupt bus: how messages find the processors that they are for.
//!
//! Each processor publishes how it is addressed and what it is busy with; a message is matched against that, and posted in
//! the mailboxes of its destinations. Nothing here waits, and nothing is owned by one thread.

use crate::devices::lapic::Address;
use crate::devices::message::{Deliver, DeliveryMode, Destination, InterruptMessage};
use crate::mailbox::{Events, Mailbox};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};

/// Processors that one machine may have: sets of them are words.
pub const MAXIMUM: usize = 64;

/// A processor as the others see it.
#[derive(Debug)]
struct Station {
    mailbox: Mailbox,
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
    /// The processor that the last interrupt with lowest-priority delivery went to, so that equals take turns.
    last_lowest: AtomicUsize,
}

impl Interconnect {
    /// `count` processors (1 to [`MAXIMUM`]; others are moved to the nearest), which have not published anything yet.
    pub fn new(count: usize) -> Self {
        let station = |_| Station {
            mailbox: Mailbox::default(),
            address: AtomicU64::new(Address::default().to_word()),
            priority: AtomicU8::new(0),
        };
        Self {
            stations: (0..count.clamp(1, MAXIMUM)).map(station).collect(),
            pin: AtomicBool::new(false),
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

    /// Whether all threads sleep, and nothing has arrived for any.
    pub fn is_quiet(&self) -> bool {
        self.stations.iter().all(|station| station.mailbox.is_quiet())
    }

    /// A processor says how it is addressed from now on. Returns the level of its LINT0 pin, which it may have missed.
    pub fn publish_address(&self, processor: usize, address: Address) -> bool {
        if let Some(station) = self.stations.get(processor) {
            // Sequentially consistent with `set_pin`: either it sees the address, or this the pin.
            station.address.store(address.to_word(), Ordering::SeqCst);
        }
        self.pin()
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

    /// Posts events to the processors of a set. Returns those that must be woken.
    pub fn post(&self, processors: u64, events: Events) -> u64 {
        self.for_each(|index, station| processors >> index & 1 != 0 && station.mailbox.post(events))
    }

    /// The set of processors for which `act` is true.
    fn for_each(&self, mut act: impl FnMut(usize, &Station) -> bool) -> u64 {
        self.stations
            .iter()
            .enumerate()
            .fold(0, |set, (index, station)| if act(index, station) { set | 1 << index } else { set })
    }

    /// Carries a message from a processor, or from a device, to its destinations. Returns those that must be woken.
    pub fn send(&self, sender: Option<usize>, message: &InterruptMessage) -> u64 {
        match (message.mode, message.destination) {
            (DeliveryMode::LowestPriority, _) => self.send_lowest(sender, message),
            // Identifiers are numbers.
            (_, Destination::Physical(identifier)) => {
                let index = identifier as usize;
                let woken = self.stations.get(index).is_some_and(|station| accept(station, message));
                if woken { 1 << index } else { 0 }
            }
            (_, destination) => self.for_each(|index, station| {
                address(station).matches(index as u32, destination, sender == Some(index)) && accept(station, message)
            }),
        }
    }

    fn send_lowest(&self, sender: Option<usize>, message: &InterruptMessage) -> u64 {
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
            return 0;
        };
        self.last_lowest.store(index, Ordering::Relaxed);
        if accept(station, message) { 1 << index } else { 0 }
    }

    /// The 8259A's output changed: processors whose LINT0 pin is open look at it. Returns those that must be woken.
    fn set_pin(&self, asserted: bool) -> u64 {
        self.pin.store(asserted, Ordering::SeqCst);
        self.for_each(|_, station| address(station).hears_pin && station.mailbox.post(Events::PIN))
    }
}

fn address(station: &Station) -> Address {
    Address::from_word(station.address.load(Ordering::SeqCst))
}

/// Posts a message. Whether the processor must be woken.
fn accept(station: &Station, message: &InterruptMessage) -> bool {
    let mailbox = &station.mailbox;
    match message.mode {
        DeliveryMode::Fixed | DeliveryMode::LowestPriority => mailbox.request(message.vector, message.level_triggered),
        DeliveryMode::NonMaskable => mailbox.post(Events::NMI),
        DeliveryMode::External => mailbox.post(Events::EXTERNAL),
        DeliveryMode::Init => mailbox.initialise(),
        DeliveryMode::Startup => mailbox.start_up(message.vector),
        DeliveryMode::SystemManagement => false,
    }
}

/// Carries interrupts of the shared devices, and notes who must be woken when the devices have been left.
pub struct Courier<'a> {
    interconnect: &'a Interconnect,
    /// The processors to wake.
    pub woken: u64,
}

impl<'a> Courier<'a> {
    /// One that has carried nothing yet.
    pub const fn new(interconnect: &'a Interconnect) -> Self {
        Self { interconnect, woken: 0 }
    }
}

impl Deliver for Courier<'_> {
    // Apart, so that the many accesses that interrupt nobody stay short.
    #[inline(never)]
    fn deliver(&mut self, message: InterruptMessage) {
        self.woken |= self.interconnect.send(None, &message);
    }

    #[inline(never)]
    fn external_interrupt(&mut self, asserted: bool) {
        self.woken |= self.interconnect.set_pin(asserted);
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
        assert_eq!(interconnect.send(Some(1), &to_others), 0b101);
        assert_eq!(pending(&interconnect), [vec![0x40], vec![], vec![0x40]]);
        assert_eq!(interconnect.send(Some(1), &message(Destination::Own, DeliveryMode::Fixed, 0x41)), 0b010);
        assert_eq!(interconnect.send(None, &message(Destination::Physical(9), DeliveryMode::Fixed, 0x41)), 0);
        assert_eq!(interconnect.send(None, &message(Destination::Physical(2), DeliveryMode::Fixed, 0x42)), 0b100);
        assert_eq!(interconnect.send(None, &message(Destination::Logical(6), DeliveryMode::Fixed, 0x43)), 0, "awake");
        assert_eq!(pending(&interconnect), [vec![], vec![0x41, 0x43], vec![0x42, 0x43]]);
    }

    #[test]
    fn lowest_priority_takes_turns_and_respects_priority() {
        let interconnect = three();
        let to_all = message(Destination::Logical(7), DeliveryMode::LowestPriority, 0x50);
        let mut order: Vec<_> = (0..3).map(|_| interconnect.send(None, &to_all)).collect();
        order.sort_unstable();
        assert_eq!(order, [1, 2, 4]);
        pending(&interconnect);
        interconnect.publish_priority(0, 0x80);
        interconnect.publish_priority(2, 0x80);
        for _ in 0..3 {
            assert_eq!(interconnect.send(None, &to_all), 2);
            pending(&interconnect);
        }
    }

    #[test]
    fn the_pin_is_heard_where_it_is_open() {
        let interconnect = three();
        let mut courier = Courier::new(&interconnect);
        courier.external_interrupt(true);
        assert_eq!(courier.woken, 0, "LINT0 is masked everywhere");
        let mut boot = LocalApic::new(0, 0);
        boot.set_virtual_wire();
        assert!(interconnect.publish_address(0, boot.address()), "and learns of it when it opens");
        courier.external_interrupt(false);
        assert_eq!(courier.woken, 1);
    }

    #[test]
    fn count_is_bounded() {
        assert_eq!(Interconnect::new(0).count(), 1);
        assert_eq!(Interconnect::new(1000).count(), MAXIMUM);
    }
}
