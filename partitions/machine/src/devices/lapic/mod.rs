//! The local APIC of one virtual processor, as xAPIC or x2APIC (SDM vol. 3, chapter 11).

mod destination;
mod hardware;
mod registers;
pub mod timer;
pub mod vectors;

pub use destination::Address;
pub use registers::RegisterFault;

use super::message::{DeliveryMode, InterruptMessage};
use timer::{Timer, TimerMode};
use vectors::VectorSet;

/// Guest-physical address of the registers after reset.
pub const DEFAULT_BASE: u64 = 0xfee0_0000;

/// IA32_APIC_BASE.
mod base {
    pub const BOOT_PROCESSOR: u64 = 1 << 8;
    pub const X2APIC: u64 = 1 << 10;
    pub const ENABLED: u64 = 1 << 11;
    pub const ADDRESS: u64 = 0xf_ffff_f000;
}

/// Local vector table entries, by their position in the register file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Entry {
    Timer = 0,
    Thermal = 1,
    Performance = 2,
    Lint0 = 3,
    Lint1 = 4,
    Error = 5,
}

/// LVT entry: masked.
const MASKED: u32 = 1 << 16;
/// Spurious-interrupt vector register: software enable.
const SOFTWARE_ENABLE: u32 = 1 << 8;

/// Error status bits.
mod error {
    pub const SEND_ILLEGAL_VECTOR: u32 = 1 << 5;
    pub const RECEIVE_ILLEGAL_VECTOR: u32 = 1 << 6;
    pub const ILLEGAL_REGISTER: u32 = 1 << 7;
}

/// What a write to the local APIC makes the machine do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LapicEffect {
    /// Nothing outside this local APIC.
    None,
    /// Its [`Address`] may be another: senders must be told.
    Moved,
    /// An interprocessor interrupt.
    Send(InterruptMessage),
    /// A level-triggered interrupt ended: I/O APICs are told.
    EndOfInterrupt(u8),
}

/// What the processor could be interrupted by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pending {
    /// Nothing.
    None,
    /// A vector of this local APIC; [`LocalApic::acknowledge`] takes it.
    Vector(u8),
    /// The 8259A, which gives the vector.
    External,
}

/// The registers and state of a local APIC.
#[derive(Clone, Debug)]
pub struct LocalApic {
    base: u64,
    identifier: u32,
    /// The vector that the processor would be interrupted by: kept up to date so that the common question is one load.
    deliverable: u8,
    /// Whether anything waits for the processor: kept up to date for the same reason.
    work: bool,
    /// Processor priority (SDM vol. 3, 11.8.3.1).
    processor_priority: u8,
    /// Hardware delivers the vectors: they are only collected here.
    delegated: bool,
    /// The guest may have set the task priority without telling: what it holds back is looked at again.
    shared_priority: bool,
    nmi_pending: bool,
    external_pending: bool,
    /// Level of the LINT0 pin: the 8259A's output.
    lint0: bool,
    requests: VectorSet,
    in_service: VectorSet,
    level_triggered: VectorSet,
    task_priority: u8,
    logical_destination: u32,
    destination_format: u32,
    spurious: u32,
    errors: u32,
    errors_shown: u32,
    command: u64,
    entries: [u32; 6],
    timer: Timer,
}

impl LocalApic {
    /// The local APIC of processor `identifier` after reset: in xAPIC mode. Processor 0 is the boot processor. The timer's
    /// input clock is the TSC's shifted right by `timer_shift`.
    pub fn new(identifier: u32, timer_shift: u32) -> Self {
        let boot = if identifier == 0 { base::BOOT_PROCESSOR } else { 0 };
        let mut apic = Self {
            base: DEFAULT_BASE | base::ENABLED | boot,
            identifier,
            deliverable: 0,
            work: false,
            processor_priority: 0,
            delegated: false,
            shared_priority: false,
            nmi_pending: false,
            external_pending: false,
            lint0: false,
            requests: VectorSet::default(),
            in_service: VectorSet::default(),
            level_triggered: VectorSet::default(),
            task_priority: 0,
            logical_destination: 0,
            destination_format: u32::MAX,
            spurious: 0xff,
            errors: 0,
            errors_shown: 0,
            command: 0,
            entries: [MASKED; 6],
            timer: Timer::new(timer_shift),
        };
        apic.reset();
        apic
    }

    /// INIT: everything but the base register and the identifier.
    pub fn reset(&mut self) {
        self.nmi_pending = false;
        self.external_pending = false;
        self.requests = VectorSet::default();
        self.in_service = VectorSet::default();
        self.level_triggered = VectorSet::default();
        self.task_priority = 0;
        self.logical_destination = 0;
        self.destination_format = u32::MAX;
        self.spurious = 0xff;
        self.errors = 0;
        self.errors_shown = 0;
        self.command = 0;
        self.entries = [MASKED; 6];
        self.timer.reset();
        self.update();
    }

    /// Sets virtual wire mode, as firmware leaves the boot processor: enabled, LINT0 takes the 8259A's vectors, LINT1 is NMI.
    pub fn set_virtual_wire(&mut self) {
        self.spurious = SOFTWARE_ENABLE | 0xff;
        self.set_entry(Entry::Lint0, 0x700);
        self.set_entry(Entry::Lint1, 0x400);
        self.update();
    }

    /// Switches to x2APIC mode, as firmware may.
    pub fn set_x2apic(&mut self) {
        self.base |= base::ENABLED | base::X2APIC;
        self.update();
    }

    /// Identifier.
    pub const fn identifier(&self) -> u32 {
        self.identifier
    }

    /// Whether its processor is the one that starts the others.
    pub const fn is_boot_processor(&self) -> bool {
        self.base & base::BOOT_PROCESSOR != 0
    }

    /// IA32_APIC_BASE.
    pub const fn base(&self) -> u64 {
        self.base
    }

    /// Guest-physical page at which the registers answer; none in x2APIC mode and while disabled.
    pub const fn page(&self) -> Option<u64> {
        if self.base & (base::ENABLED | base::X2APIC) == base::ENABLED { Some(self.base & base::ADDRESS) } else { None }
    }

    /// Whether the registers are at their MSRs.
    pub const fn is_x2apic(&self) -> bool {
        self.base & (base::ENABLED | base::X2APIC) == base::ENABLED | base::X2APIC
    }

    /// Whether IA32_APIC_BASE enables the local APIC at all.
    pub const fn is_enabled(&self) -> bool {
        self.base & base::ENABLED != 0
    }

    /// Writes IA32_APIC_BASE (SDM vol. 3, 11.12.5). `x2apic_allowed`: CPUID shows x2APIC.
    pub fn write_base(&mut self, value: u64, x2apic_allowed: bool) -> Result<(), RegisterFault> {
        let reserved = !(base::BOOT_PROCESSOR | base::X2APIC | base::ENABLED | base::ADDRESS);
        let mode = |value: u64| (value & base::ENABLED != 0, value & base::X2APIC != 0);
        let allowed = match (mode(self.base), mode(value)) {
            // x2APIC without enable is no mode at all.
            (_, (false, true)) => false,
            // Out of x2APIC mode the way leads through disabled; into it, from xAPIC mode.
            ((_, true), (true, false)) => false,
            ((false, _), (true, true)) => false,
            (_, (_, x2apic)) => !x2apic || x2apic_allowed,
        };
        if value & reserved != 0 || !allowed {
            return Err(RegisterFault);
        }
        let was_enabled = self.is_enabled();
        // Which processor is the boot processor does not change.
        self.base = (value & !base::BOOT_PROCESSOR) | (self.base & base::BOOT_PROCESSOR);
        if was_enabled && !self.is_enabled() {
            self.reset();
        }
        self.update();
        Ok(())
    }

    /// Time at which the timer interrupts; `u64::MAX` for never.
    #[inline]
    pub const fn deadline(&self) -> u64 {
        let [timer, ..] = self.entries;
        if timer & MASKED != 0 { u64::MAX } else { self.timer.fires() }
    }

    /// Fires the timer if its time has come.
    pub fn advance(&mut self, now: u64) {
        if self.timer.fires() > now {
            return;
        }
        self.timer.expire(now);
        let entry = self.entry(Entry::Timer);
        if entry & MASKED == 0 {
            self.request(entry as u8, false);
        }
    }

    /// IA32_TSC_DEADLINE.
    pub const fn tsc_deadline(&self) -> u64 {
        self.timer.tsc_deadline()
    }

    /// Writes IA32_TSC_DEADLINE.
    pub fn set_tsc_deadline(&mut self, deadline: u64, now: u64) {
        self.timer.set_tsc_deadline(deadline, now);
        self.advance(now);
    }

    /// The guest's TSC is `offset` (modulo 2^64) ahead of the machine's clock.
    pub fn set_tsc_offset(&mut self, offset: u64, now: u64) {
        self.timer.set_tsc_offset(offset, now);
        self.advance(now);
    }

    /// CR8.
    pub const fn cr8(&self) -> u64 {
        self.task_priority as u64 >> 4
    }

    /// Writes CR8 (its low four bits).
    pub fn set_cr8(&mut self, value: u64) {
        self.task_priority = (value as u8 & 0x0f) << 4;
        self.update();
    }

    /// Takes a requested vector.
    pub fn accept(&mut self, vector: u8, level_triggered: bool) {
        if self.is_enabled() {
            self.request(vector, level_triggered);
        }
    }

    /// Takes an NMI message.
    pub fn accept_nmi(&mut self) {
        self.nmi_pending |= self.is_enabled();
        self.update();
    }

    /// Takes a message whose vector the 8259A gives.
    pub fn accept_external(&mut self) {
        self.external_pending |= self.is_enabled();
        self.update();
    }

    /// The level of the LINT0 pin (the 8259A's output) changed.
    pub fn set_lint0(&mut self, asserted: bool) {
        let rises = asserted && !self.lint0;
        self.lint0 = asserted;
        if rises {
            self.local_interrupt(Entry::Lint0);
        }
        self.update();
    }

    /// The LINT1 pin (NMI) was pulsed.
    pub fn pulse_lint1(&mut self) {
        if self.is_enabled() {
            self.local_interrupt(Entry::Lint1);
        } else {
            self.nmi_pending = true;
        }
        self.update();
    }

    fn local_interrupt(&mut self, entry: Entry) {
        let value = self.entry(entry);
        if value & MASKED != 0 || !self.is_enabled() {
            return;
        }
        match DeliveryMode::from_bits(value >> 8) {
            Some(DeliveryMode::Fixed) => self.request(value as u8, value & (1 << 15) != 0),
            Some(DeliveryMode::NonMaskable) => self.nmi_pending = true,
            // The pin's level counts while the vector has not been taken.
            _ => {}
        }
    }

    /// Whether the 8259A's request reaches the processor.
    fn external(&self) -> bool {
        if self.external_pending {
            return true;
        }
        if !self.lint0 {
            return false;
        }
        if !self.is_enabled() {
            return self.is_boot_processor();
        }
        let entry = self.entry(Entry::Lint0);
        entry & MASKED == 0 && entry >> 8 & 7 == 7
    }

    /// What the processor would be interrupted by if its interrupts were enabled.
    pub fn pending(&self) -> Pending {
        if self.deliverable != 0 {
            Pending::Vector(self.deliverable)
        } else if self.external() {
            Pending::External
        } else {
            Pending::None
        }
    }

    /// Whether anything (interrupt or NMI) waits for the processor.
    #[inline]
    pub const fn has_work(&self) -> bool {
        self.work
    }

    /// The processor takes the vector that [`pending`](Self::pending) gave.
    pub fn acknowledge(&mut self) -> u8 {
        let vector = self.deliverable;
        if vector == 0 {
            return self.spurious as u8;
        }
        self.requests.remove(vector);
        self.in_service.insert(vector);
        self.update();
        vector
    }

    /// The processor takes an interrupt of the 8259A.
    pub fn acknowledge_external(&mut self) {
        self.external_pending = false;
        self.update();
    }

    /// The command register, its upper half included.
    pub const fn command(&self) -> u64 {
        self.command
    }

    /// Whether an NMI waits.
    pub const fn is_nmi_pending(&self) -> bool {
        self.nmi_pending
    }

    /// The processor takes the NMI. Whether there was one.
    pub fn take_nmi(&mut self) -> bool {
        let taken = core::mem::replace(&mut self.nmi_pending, false);
        self.update();
        taken
    }

    /// Processor priority (SDM vol. 3, 11.8.3.1).
    pub const fn processor_priority(&self) -> u8 {
        self.processor_priority
    }

    fn request(&mut self, vector: u8, level_triggered: bool) {
        if vector < 16 {
            self.raise_error(error::RECEIVE_ILLEGAL_VECTOR);
            return;
        }
        if self.spurious & SOFTWARE_ENABLE == 0 {
            return;
        }
        self.requests.insert(vector);
        if level_triggered {
            self.level_triggered.insert(vector);
        } else {
            self.level_triggered.remove(vector);
        }
        self.update();
    }

    fn raise_error(&mut self, bit: u32) {
        if self.errors & bit != 0 {
            return;
        }
        self.errors |= bit;
        let entry = self.entry(Entry::Error);
        // An illegal vector in the error entry itself must not raise an error again.
        if entry & MASKED == 0 && entry as u8 >= 16 {
            self.request(entry as u8, false);
        }
    }

    fn end_of_interrupt(&mut self) -> LapicEffect {
        let vector = self.in_service.highest();
        if vector == 0 {
            return LapicEffect::None;
        }
        self.in_service.remove(vector);
        self.update();
        if self.level_triggered.contains(vector) { LapicEffect::EndOfInterrupt(vector) } else { LapicEffect::None }
    }

    /// Works out anew what waits, after any change.
    fn update(&mut self) {
        let (highest, served) = (self.requests.highest(), self.in_service.highest());
        self.processor_priority =
            if self.task_priority >> 4 >= served >> 4 { self.task_priority } else { served & 0xf0 };
        let interrupts = highest >> 4 > self.processor_priority >> 4 && self.is_enabled();
        self.deliverable = if interrupts && !self.delegated { highest } else { 0 };
        let held_back = self.shared_priority && highest >> 4 > served >> 4;
        self.work = interrupts || held_back || self.nmi_pending || self.external();
    }

    fn entry(&self, entry: Entry) -> u32 {
        self.entries.get(entry as usize).copied().unwrap_or(MASKED)
    }

    fn set_entry(&mut self, entry: Entry, value: u32) {
        let mask_forced = if self.spurious & SOFTWARE_ENABLE == 0 { MASKED } else { 0 };
        if let Some(register) = self.entries.get_mut(entry as usize) {
            *register = value | mask_forced;
        }
        self.update();
    }

    fn set_timer_entry(&mut self, value: u32, now: u64) {
        self.advance(now);
        self.set_entry(Entry::Timer, value);
        self.timer.set_mode(TimerMode::from_entry(value), now);
    }
}

#[cfg(test)]
mod tests;
