//! Delivery of interrupts and exceptions (SDM vol. 3, chapter 7 and 21.1.4).

use super::descriptor::{Descriptor, access};
use super::interpreter::{Interpreter, interruptibility};
use super::{Break, Environment, Fault, vector};
use crate::emulate::registers::{flags, mask};
use crate::memory::GuestMemory;
use bulkhead_abi::{Segment, StateGroups, segment};

/// RFLAGS.TF, IF, NT.
const TRAP: u64 = 1 << 8;
const INTERRUPTS: u64 = 1 << 9;
const NESTED_TASK: u64 = 1 << 14;

/// VM-entry interruption information (SDM vol. 3, 25.8.3).
mod information {
    pub const VALID: u32 = 1 << 31;
    pub const HAS_CODE: u32 = 1 << 11;
    pub const NMI: u32 = 2;
    pub const EXCEPTION: u32 = 3;
}

/// What is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    vector: u8,
    code: Option<u32>,
    /// Not by INT n and the like: the error code of an exception during the delivery says so in bit 0 (EXT).
    external: bool,
    /// The handler returns to the instruction: RF is set for it.
    restarts: bool,
    /// An exception in the sense of the table of double faults.
    exception: bool,
    /// Bytes of the instruction that the handler returns behind.
    length: u32,
}

impl Event {
    /// A fault.
    pub const fn exception(fault: Fault) -> Self {
        Self { vector: fault.vector, code: fault.code, external: true, restarts: true, exception: true, length: 0 }
    }

    /// A trap, when RIP is already behind its instruction.
    pub const fn trap(fault: Fault) -> Self {
        Self { restarts: false, ..Self::exception(fault) }
    }

    /// INT n, INT3, INTO of `length` bytes.
    pub const fn software(vector: u8, length: u32) -> Self {
        Self { vector, code: None, external: false, restarts: false, exception: false, length }
    }

    /// The event that a VM entry would inject.
    fn injected(injection: u32, code: u32, length: u32) -> Self {
        let fault = Fault { vector: injection as u8, code: (injection & information::HAS_CODE != 0).then_some(code) };
        match injection >> 8 & 7 {
            information::EXCEPTION => Self::exception(fault),
            0 | information::NMI => Self { exception: false, ..Self::trap(fault) },
            _ => Self::software(fault.vector, length),
        }
    }

    /// A fault in the format of VM-entry interruption information.
    pub const fn injection(fault: Fault) -> u32 {
        information::VALID | information::EXCEPTION << 8 | fault.vector as u32
    }

    fn is_contributory(&self) -> bool {
        self.exception && matches!(self.vector, vector::DIVIDE | vector::INVALID_TSS..=vector::GENERAL_PROTECTION)
    }

    /// What is delivered instead when the delivery of `self` ends in `fault` (SDM vol. 3, table 7-5).
    fn escalated(&self, fault: Fault) -> Result<Self, Break> {
        let second = Self::exception(fault);
        if self.exception && self.vector == vector::DOUBLE_FAULT {
            return Err(Break::Shutdown);
        }
        let page_fault = |event: &Self| event.exception && event.vector == vector::PAGE_FAULT;
        let double = self.is_contributory() && second.is_contributory()
            || page_fault(self) && (second.is_contributory() || page_fault(&second));
        Ok(if double { Self::exception(Fault { vector: vector::DOUBLE_FAULT, code: Some(0) }) } else { second })
    }
}

impl<M: GuestMemory, E: Environment> Interpreter<'_, M, E> {
    /// Delivers what the state asks to inject, as VM entry would.
    pub fn inject(&mut self) -> Result<(), Break> {
        let state = &mut *self.machine.state;
        if state.dirty & StateGroups::INJECTION.bits() == 0 || state.injection & information::VALID == 0 {
            return Ok(());
        }
        let injection = state.injection;
        let event = Event::injected(injection, state.injection_error_code, state.injection_length);
        state.injection = 0;
        state.dirty &= !StateGroups::INJECTION.bits();
        if injection >> 8 & 7 == information::NMI {
            state.interruptibility |= interruptibility::NMI;
        }
        self.raise(event)
    }

    /// Delivers `event`, or what comes of the attempt.
    ///
    /// # Errors
    /// [`Break::Shutdown`] on a triple fault; [`Break::Unsupported`] for gates that are not interpreted.
    pub fn raise(&mut self, event: Event) -> Result<(), Break> {
        let mut event = event;
        // Every round is an event of a higher class: interrupt, benign, contributory, double fault.
        loop {
            match self.deliver(event) {
                Err(Break::Fault(fault)) => event = event.escalated(fault)?,
                other => return other,
            }
        }
    }

    /// Delivers `event`; if that ends in an exception, nothing has changed but memory.
    pub fn deliver(&mut self, event: Event) -> Result<(), Break> {
        let before = self.snapshot();
        let delivered = if self.is_protected() { self.deliver_protected(event) } else { self.deliver_real(event) };
        delivered.map_err(|stop| {
            self.restore(&before);
            match stop {
                Break::Fault(fault) => {
                    Break::Fault(Fault { code: fault.code.map(|code| code | u32::from(event.external)), ..fault })
                }
                other => other,
            }
        })
    }

    /// RIP that the handler returns to.
    fn return_address(&self, event: Event) -> u64 {
        self.machine.state.rip.wrapping_add(event.length.into()) & mask(4)
    }

    fn deliver_real(&mut self, event: Event) -> Result<(), Break> {
        let table = self.machine.state.idtr;
        let offset = 4 * u64::from(event.vector);
        if offset + 3 > u64::from(table.limit) {
            return Err(Break::PROTECTION);
        }
        let entry = self.read_system(table.base.wrapping_add(offset), 4)?;
        let return_address = self.return_address(event);
        let caller = self.machine.state.segments[segment::CS].selector;
        let rflags = self.machine.state.rflags;
        self.push(2, rflags)?;
        self.push(2, caller)?;
        self.push(2, return_address)?;
        let code = self.code_segment((entry >> 16) as u16)?;
        self.enter_handler(code, entry & mask(2), INTERRUPTS | TRAP | flags::RF | flags::AC)
    }

    fn deliver_protected(&mut self, event: Event) -> Result<(), Break> {
        const IN_IDT: u32 = 2;
        const TASK_GATE: u32 = 0x5;
        let about_gate = u32::from(event.vector) << 3 | IN_IDT;
        let table = self.machine.state.idtr;
        let offset = 8 * u64::from(event.vector);
        if offset + 7 > u64::from(table.limit) {
            return Err(Break::coded(vector::GENERAL_PROTECTION, about_gate));
        }
        let gate = Descriptor(self.read_system(table.base.wrapping_add(offset), 8)?);
        // Interrupt gates end in 0, trap gates in 1; 6 and 7 are of 16 bits, 14 and 15 of 32.
        let (width, interrupt) = match gate.access() & 0x1f {
            0x6 => (2, true),
            0x7 => (2, false),
            0xe => (4, true),
            0xf => (4, false),
            TASK_GATE => return Err(Break::Unsupported),
            _ => return Err(Break::coded(vector::GENERAL_PROTECTION, about_gate)),
        };
        if !gate.has(access::PRESENT) {
            return Err(Break::coded(vector::NOT_PRESENT, about_gate));
        }
        let selector = (gate.0 >> 16) as u16;
        let target = (gate.0 & 0xffff | gate.0 >> 32 & 0xffff_0000) & mask(width);
        // A selector's requested level counts for nothing here.
        let code = self.code_segment(selector & !3)?;
        let return_address = self.return_address(event);
        let caller = self.machine.state.segments[segment::CS].selector;
        let rflags = self.machine.state.rflags | if event.restarts { flags::RF } else { 0 };
        self.push(width, rflags)?;
        self.push(width, caller)?;
        self.push(width, return_address)?;
        if let Some(code) = event.code {
            self.push(width, code.into())?;
        }
        let cleared = TRAP | NESTED_TASK | flags::RF | flags::VM | if interrupt { INTERRUPTS } else { 0 };
        self.enter_handler(code, target, cleared)
    }

    fn enter_handler(&mut self, code: Segment, target: u64, cleared: u64) -> Result<(), Break> {
        if target > u64::from(code.limit) {
            return Err(Break::PROTECTION);
        }
        let state = &mut *self.machine.state;
        state.segments[segment::CS] = code;
        state.rip = target;
        state.rflags &= !cleared;
        state.interruptibility &= !(interruptibility::STI | interruptibility::MOV_SS);
        Ok(())
    }
}
