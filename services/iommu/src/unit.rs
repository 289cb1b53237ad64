//! A remapping unit: from whatever the firmware left to translating (sections 11.4.4, 11.4.5).

use crate::fault::Fault;
use crate::interrupts::InterruptTable;
use crate::queue;
use crate::tables::Format;
use bulkhead_driver::{Clock, DmaMemory, Registers};

/// Offsets of registers (11.4).
const VERSION: u32 = 0x00;
const CAPABILITY: u32 = 0x08;
const EXTENDED_CAPABILITY: u32 = 0x10;
const COMMAND: u32 = 0x18;
const STATUS: u32 = 0x1c;
const ROOT: u32 = 0x20;
const FAULT_STATUS: u32 = 0x34;
const FAULT_CONTROL: u32 = 0x38;
const FAULT_DATA: u32 = 0x3c;
const FAULT_ADDRESS: u32 = 0x40;
const FAULT_UPPER_ADDRESS: u32 = 0x44;
const QUEUE_TAIL: u32 = 0x88;
const QUEUE_ADDRESS: u32 = 0x90;
const INTERRUPT_TABLE: u32 = 0xb8;

/// Bits of command and status: they are the same but for those that start something.
const TRANSLATION: u32 = 1 << 31;
const SET_ROOT: u32 = 1 << 30;
const FLUSH_WRITES: u32 = 1 << 27;
const QUEUE: u32 = 1 << 26;
const INTERRUPTS: u32 = 1 << 25;
const SET_INTERRUPT_TABLE: u32 = 1 << 24;
const COMPATIBLE_INTERRUPTS: u32 = 1 << 23;
/// Those that keep something on.
const LASTING: u32 = TRANSLATION | QUEUE | INTERRUPTS | COMPATIBLE_INTERRUPTS;

/// Capabilities (11.4.2, 11.4.3).
const NEEDS_WRITE_FLUSH: u64 = 1 << 4;
const COHERENT: u64 = 1 << 0;
const HAS_QUEUE: u64 = 1 << 1;
const HAS_INTERRUPTS: u64 = 1 << 3;
const HAS_X2APIC: u64 = 1 << 4;

/// Masks the fault interrupt.
const MASKED: u32 = 1 << 31;
/// A fault recording register holds a fault, in its last 32 bits; writing it frees the register.
const FAULT: u32 = 1 << 31;
const FAULT_RECORD: u32 = 16;
/// The errors in the fault status that are cleared by writing them: overflow, queue.
const FAULT_ERRORS: u32 = 0x71;

/// Milliseconds that a unit has for a command.
const PATIENCE: u64 = 1000;

/// Why a unit cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unusable {
    /// No unit answers.
    Absent,
    /// It has page tables of neither three nor four levels.
    Levels,
    /// It has no queue for invalidations: those before 2009.
    Queue,
    /// Its fault registers lie outside what is mapped.
    FaultRegisters,
    /// The processors' APICs are in a mode that it does not know.
    X2apic,
    /// It did not do what it was told.
    Stuck,
}

/// A unit.
#[derive(Debug)]
pub struct Unit<R> {
    registers: R,
    capability: u64,
    extended: u64,
    faults: u32,
    fault_count: u32,
}

impl<R: Registers> Unit<R> {
    /// The unit behind these registers, of which `window` bytes are reachable.
    pub fn new(registers: R, window: u32) -> Result<Self, Unusable> {
        if matches!(registers.read_u32(VERSION), 0 | u32::MAX) {
            return Err(Unusable::Absent);
        }
        let capability = registers.read_u64(CAPABILITY);
        let extended = registers.read_u64(EXTENDED_CAPABILITY);
        Format::of(capability).ok_or(Unusable::Levels)?;
        if extended & HAS_QUEUE == 0 {
            return Err(Unusable::Queue);
        }
        let faults = (capability >> 24 & 0x3ff) as u32 * FAULT_RECORD;
        let fault_count = (capability >> 40 & 0xff) as u32 + 1;
        if faults + fault_count * FAULT_RECORD > window {
            return Err(Unusable::FaultRegisters);
        }
        Ok(Self { registers, capability, extended, faults, fault_count })
    }

    /// What it can translate.
    pub fn format(&self) -> Option<Format> {
        Format::of(self.capability)
    }

    /// Whether it can remap interrupts, for processors in x2APIC mode or not.
    pub const fn remaps_interrupts(&self, x2apic: bool) -> bool {
        self.extended & HAS_INTERRUPTS != 0 && (!x2apic || self.extended & HAS_X2APIC != 0)
    }

    /// Whether it reads tables in memory past the processors' caches, which must then be written back before.
    pub const fn needs_write_back(&self) -> bool {
        self.extended & COHERENT == 0
    }

    fn command(&self, clock: &impl Clock, set: u32, clear: u32, wanted: u32) -> Result<(), Unusable> {
        let lasting = self.registers.read_u32(STATUS) & LASTING;
        self.registers.write_u32(COMMAND, (lasting | set) & !clear);
        let is_done = || self.registers.read_u32(STATUS) & (set | clear) == wanted;
        if clock.wait_until(PATIENCE, is_done) { Ok(()) } else { Err(Unusable::Stuck) }
    }

    /// Has the unit translate by these tables, and remap interrupts if there is a table for them. `queue` is memory of
    /// [`QUEUE_BYTES`](crate::QUEUE_BYTES) at a page, for this unit alone. `write_back` writes all tables and queues back to memory.
    pub fn turn_on(
        &self,
        clock: &impl Clock,
        root: u64,
        interrupts: Option<&InterruptTable<'_>>,
        queue: &DmaMemory<'_>,
        write_back: impl Fn(),
    ) -> Result<(), Unusable> {
        if interrupts.is_some_and(|table| !self.remaps_interrupts(table.needs_x2apic())) {
            return Err(Unusable::X2apic);
        }
        // Firmware may have left any of it on.
        for part in [TRANSLATION, INTERRUPTS, QUEUE] {
            self.command(clock, 0, part, 0)?;
        }
        if self.capability & NEEDS_WRITE_FLUSH != 0 {
            self.command(clock, FLUSH_WRITES, 0, 0)?;
        }
        let tail = queue::fill(queue, interrupts.is_some());
        write_back();
        self.registers.write_u64(ROOT, root);
        self.command(clock, SET_ROOT, 0, SET_ROOT)?;
        if let Some(table) = interrupts {
            self.registers.write_u64(INTERRUPT_TABLE, table.pointer());
            self.command(clock, SET_INTERRUPT_TABLE, 0, SET_INTERRUPT_TABLE)?;
        }
        self.registers.write_u64(QUEUE_TAIL, 0);
        self.registers.write_u64(QUEUE_ADDRESS, queue.physical());
        self.command(clock, QUEUE, 0, QUEUE)?;
        self.registers.write_u64(QUEUE_TAIL, tail);
        if !clock.wait_until(PATIENCE, || queue::is_done(queue)) {
            return Err(Unusable::Stuck);
        }
        if interrupts.is_some() {
            // Without this bit a device could signal any vector by a message of the old format (5.1.4).
            self.command(clock, 0, COMPATIBLE_INTERRUPTS, 0)?;
            self.command(clock, INTERRUPTS, 0, INTERRUPTS)?;
        }
        self.command(clock, TRANSLATION, 0, TRANSLATION)
    }

    /// Has the unit signal faults by this message, which is not remapped itself (7.3).
    pub fn signal_faults(&self, address: u64, data: u32) {
        self.registers.write_u32(FAULT_CONTROL, MASKED);
        self.registers.write_u32(FAULT_DATA, data);
        self.registers.write_u32(FAULT_ADDRESS, address as u32);
        self.registers.write_u32(FAULT_UPPER_ADDRESS, (address >> 32) as u32);
        self.registers.write_u32(FAULT_CONTROL, 0);
    }

    /// Hands over the faults that the unit has recorded, and frees their places: once round, so that a device that goes on does not keep
    /// the caller. Returns whether there were more than it could record.
    pub fn take_faults(&self, mut take: impl FnMut(Fault)) -> bool {
        for index in 0..self.fault_count {
            let place = self.faults + index * FAULT_RECORD;
            let last = self.registers.read_u32(place + 12);
            if last & FAULT == 0 {
                continue;
            }
            let low = self.registers.read_u64(place);
            let high = u64::from(self.registers.read_u32(place + 8)) | u64::from(last) << 32;
            self.registers.write_u32(place + 12, FAULT);
            take(Fault::new(low, high));
        }
        let errors = self.registers.read_u32(FAULT_STATUS) & FAULT_ERRORS;
        self.registers.write_u32(FAULT_STATUS, errors);
        errors & 1 != 0
    }
}
