//! The interrupt side of a guest's processors: their local APICs, and what each is interrupted by next.

use crate::devices::lapic::LocalApic;
use crate::devices::message::{Deliver, DeliveryMode, InterruptMessage};
use alloc::vec::Vec;

/// Processors that one machine may have.
pub const MAXIMUM: usize = 64;

/// What decides whether a processor takes an event at its next entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Readiness {
    /// RFLAGS.
    pub rflags: u64,
    /// Interruptibility state as VMX has it (SDM vol. 3, 25.4.2). Whoever skips an instruction for the guest, HLT too, ends
    /// the blocking by STI and MOV SS first.
    pub interruptibility: u32,
    /// Another event (an exception, or one whose delivery was cut short) is injected at the next entry already.
    pub occupied: bool,
}

impl Readiness {
    const INTERRUPT_FLAG: u64 = 1 << 9;
    const BLOCKING_BY_STI: u32 = 1 << 0;
    const BLOCKING_BY_MOV_SS: u32 = 1 << 1;
    const BLOCKING_BY_NMI: u32 = 1 << 3;

    /// Whether it takes an interrupt.
    pub const fn interrupts(&self) -> bool {
        self.rflags & Self::INTERRUPT_FLAG != 0
            && self.interruptibility & (Self::BLOCKING_BY_STI | Self::BLOCKING_BY_MOV_SS) == 0
            && !self.occupied
    }

    /// Whether it takes an NMI.
    pub const fn nmi(&self) -> bool {
        let blocking = Self::BLOCKING_BY_STI | Self::BLOCKING_BY_MOV_SS | Self::BLOCKING_BY_NMI;
        self.interruptibility & blocking == 0 && !self.occupied
    }
}

/// What the next entry is to do about pending events.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Arbitration {
    /// The event to inject, in VM-entry interruption-information format (SDM vol. 3, 25.8.3); 0 for none.
    pub injection: u32,
    /// Exit as soon as the guest can take an interrupt.
    pub interrupt_window: bool,
    /// Exit as soon as the guest can take an NMI.
    pub nmi_window: bool,
}

impl Arbitration {
    const VALID: u32 = 1 << 31;
    const NMI: u32 = 2 << 8;

    /// Injects an external interrupt.
    pub const fn external(vector: u8) -> u32 {
        Self::VALID | vector as u32
    }

    /// Injects an NMI.
    pub const fn nmi() -> u32 {
        Self::VALID | Self::NMI | 2
    }
}

/// The local APICs of all processors, where one thread runs them all.
#[derive(Clone, Debug)]
pub struct Processors {
    apics: Vec<LocalApic>,
    /// When the first of their timers fires.
    deadline: u64,
    /// Processors that must look at what is pending.
    woken: u64,
    /// The processor that the last interrupt with lowest-priority delivery went to, so that equals take turns.
    last_lowest: usize,
}

impl Processors {
    /// `count` processors (1 to [`MAXIMUM`]; others are moved to the nearest) after reset, with local APIC identifiers from 0.
    pub fn new(count: usize, timer_shift: u32) -> Self {
        let count = count.clamp(1, MAXIMUM);
        let apics = (0..count as u32).map(|identifier| LocalApic::new(identifier, timer_shift)).collect();
        Self { apics, deadline: u64::MAX, woken: 0, last_lowest: 0 }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.apics.len()
    }

    /// The local APIC of a processor.
    pub fn apic(&self, processor: usize) -> Option<&LocalApic> {
        self.apics.get(processor)
    }

    /// Lets `change` act on the local APIC of a processor, if there is one.
    #[inline]
    pub fn with_apic<R>(&mut self, processor: usize, change: impl FnOnce(&mut LocalApic) -> R) -> Option<R> {
        let apic = self.apics.get_mut(processor)?;
        let before = apic.deadline();
        let result = change(apic);
        let after = apic.deadline();
        if before != after {
            self.move_deadline(before, after);
        }
        Some(result)
    }

    /// One timer fires at `after` instead of `before`.
    fn move_deadline(&mut self, before: u64, after: u64) {
        if after <= self.deadline {
            self.deadline = after;
        } else if before == self.deadline {
            self.deadline = self.apics.iter().map(LocalApic::deadline).fold(u64::MAX, u64::min);
        }
    }

    /// The set of processors that something arrived for since the last call.
    pub const fn take_woken(&mut self) -> u64 {
        core::mem::replace(&mut self.woken, 0)
    }

    /// Sends an interprocessor interrupt.
    pub fn send(&mut self, sender: usize, message: &InterruptMessage) {
        self.deliver_from(Some(sender), message);
    }

    /// Time at which the first timer fires; `u64::MAX` for never.
    #[inline]
    pub const fn deadline(&self) -> u64 {
        self.deadline
    }

    /// Fires the timers whose time has come.
    pub fn advance(&mut self, now: u64) {
        if now < self.deadline {
            return;
        }
        let mut deadline = u64::MAX;
        for (index, apic) in self.apics.iter_mut().enumerate() {
            if apic.deadline() <= now {
                apic.advance(now);
                self.woken |= 1 << index;
            }
            deadline = deadline.min(apic.deadline());
        }
        self.deadline = deadline;
    }

    fn deliver_from(&mut self, sender: Option<usize>, message: &InterruptMessage) {
        if message.mode == DeliveryMode::LowestPriority {
            self.deliver_lowest(sender, message);
            return;
        }
        for (index, apic) in self.apics.iter_mut().enumerate() {
            if apic.matches(message.destination, sender == Some(index)) && apic.accept(message) {
                self.woken |= 1 << index;
            }
        }
    }

    fn deliver_lowest(&mut self, sender: Option<usize>, message: &InterruptMessage) {
        let count = self.apics.len();
        let after_last = self.last_lowest + 1;
        let best = (0..count)
            .map(|turn| (turn, (after_last + turn) % count))
            .filter_map(|(turn, index)| Some((turn, index, self.apics.get(index)?)))
            .filter(|(_, index, apic)| apic.matches(message.destination, sender == Some(*index)))
            .min_by_key(|(turn, _, apic)| (apic.processor_priority() >> 4, *turn))
            .map(|(_, index, _)| index);
        if let Some(index) = best {
            self.last_lowest = index;
            if self.apics.get_mut(index).is_some_and(|apic| apic.accept(message)) {
                self.woken |= 1 << index;
            }
        }
    }
}

impl Deliver for Processors {
    fn deliver(&mut self, message: InterruptMessage) {
        self.deliver_from(None, &message);
    }

    fn external_interrupt(&mut self, asserted: bool) {
        for (index, apic) in self.apics.iter_mut().enumerate() {
            apic.set_lint0(asserted);
            if asserted && apic.has_work() {
                self.woken |= 1 << index;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::lapic::Pending;
    use crate::devices::message::Destination;

    fn three() -> Processors {
        let mut processors = Processors::new(3, 0);
        for index in 0..3 {
            processors.with_apic(index, |apic| {
                apic.write_memory(0xf0, 0x1ff, 0);
                apic.write_memory(0xd0, 0x0100_0000 << index, 0);
            });
        }
        processors
    }

    fn message(destination: Destination, mode: DeliveryMode, vector: u8) -> InterruptMessage {
        InterruptMessage { destination, mode, vector, level_triggered: false }
    }

    fn pending(processors: &Processors) -> alloc::vec::Vec<Pending> {
        (0..processors.count()).filter_map(|index| processors.apic(index)).map(LocalApic::pending).collect()
    }

    #[test]
    fn shorthands() {
        let mut processors = three();
        processors.send(1, &message(Destination::Others, DeliveryMode::Fixed, 0x40));
        assert_eq!(processors.take_woken(), 0b101);
        assert_eq!(pending(&processors), [Pending::Vector(0x40), Pending::None, Pending::Vector(0x40)]);
        processors.send(1, &message(Destination::Own, DeliveryMode::Fixed, 0x41));
        assert_eq!(processors.take_woken(), 0b010);
        assert_eq!(processors.take_woken(), 0);
        processors.deliver(message(Destination::Physical(9), DeliveryMode::Fixed, 0x41));
        assert_eq!(processors.take_woken(), 0);
    }

    #[test]
    fn lowest_priority_takes_turns_and_respects_priority() {
        let mut processors = three();
        let to_all = message(Destination::Logical(7), DeliveryMode::LowestPriority, 0x50);
        let mut order = alloc::vec::Vec::new();
        for _ in 0..3 {
            processors.deliver(to_all);
            order.push(processors.take_woken());
        }
        order.sort_unstable();
        assert_eq!(order, [1, 2, 4]);
        for index in [0, 2] {
            processors.with_apic(index, |apic| apic.set_cr8(8));
        }
        for _ in 0..3 {
            processors.deliver(to_all);
            assert_eq!(processors.take_woken(), 2);
        }
    }

    #[test]
    fn count_is_bounded() {
        assert_eq!(Processors::new(0, 0).count(), 1);
        assert_eq!(Processors::new(1000, 0).count(), MAXIMUM);
    }
}
