//! VM exits (SDM vol. 3, appendix C).

use crate::guest::{End, GuestMachine};
use crate::monitor::{Activity, INTERRUPT_FLAG, Monitor};
use bulkhead_machine::bus::Width;
use bulkhead_machine::devices::power::PowerEvent;
use bulkhead_machine::emulate::{self, Exception, Hint, Mmio, Outcome, PioExit, PortIo};
use bulkhead_machine::memory::GuestPhysical;
use bulkhead_machine::processor::Processor;
use bulkhead_runtime::abi::{StateGroups, register, segment};
use bulkhead_runtime::{println, time};

/// Type and vector in interruption information, and those of a page fault.
const TYPE_AND_VECTOR: u32 = 0x7ff;
const PAGE_FAULT: u32 = 3 << 8 | 14;
/// Basic exit reasons.
mod reason {
    pub const EXCEPTION: u64 = 0;
    pub const TRIPLE_FAULT: u64 = 2;
    pub const INTERRUPT_WINDOW: u64 = 7;
    pub const NMI_WINDOW: u64 = 8;
    pub const TASK_SWITCH: u64 = 9;
    pub const CPUID: u64 = 10;
    pub const HLT: u64 = 12;
    pub const INVD: u64 = 13;
    pub const CONTROL_REGISTER: u64 = 28;
    pub const DEBUG_REGISTER: u64 = 29;
    pub const IO: u64 = 30;
    pub const RDMSR: u64 = 31;
    pub const WRMSR: u64 = 32;
    pub const RDPMC: u64 = 15;
    pub const PAUSE: u64 = 40;
    pub const TPR_BELOW_THRESHOLD: u64 = 43;
    pub const APIC_ACCESS: u64 = 44;
    pub const VIRTUALIZED_EOI: u64 = 45;
    pub const EPT_VIOLATION: u64 = 48;
    pub const EPT_MISCONFIGURATION: u64 = 49;
    pub const WBINVD: u64 = 54;
    pub const XSETBV: u64 = 55;
    pub const APIC_WRITE: u64 = 56;
}

/// Access rights of a code segment: 64-bit code.
const LONG_CODE: u32 = 1 << 13;
/// EFER.LMA.
const LONG_MODE: u64 = 1 << 10;
/// Interruption and vectoring information: there is an event.
const VALID: u32 = 1 << 31;
/// The same: it comes with an error code.
const HAS_ERROR_CODE: u32 = 1 << 11;
/// The same: what the injection format has of it.
const INJECTABLE: u32 = 0x8000_0fff;

/// The devices, for one access of the guest.
pub(crate) struct Devices<'a> {
    pub(crate) machine: &'a GuestMachine,
    pub(crate) by: &'a mut Processor,
    pub(crate) now: u64,
    pub(crate) power: Option<PowerEvent>,
}

impl Mmio for Devices<'_> {
    #[inline]
    fn read(&mut self, address: GuestPhysical, size: u8) -> u64 {
        match Width::from_bytes(u32::from(size)) {
            Some(width) => self.machine.read_memory(self.by, address.0, width, self.now),
            None => (0..u64::from(size)).rev().fold(0, |value, byte| {
                value << 8 | self.machine.read_memory(self.by, address.0 + byte, Width::Byte, self.now)
            }),
        }
    }

    #[inline]
    fn write(&mut self, address: GuestPhysical, size: u8, value: u64) {
        match Width::from_bytes(u32::from(size)) {
            Some(width) => self.machine.write_memory(self.by, address.0, width, value, self.now),
            None => {
                for byte in 0..u64::from(size) {
                    let part = value >> (8 * byte);
                    self.machine.write_memory(self.by, address.0 + byte, Width::Byte, part, self.now);
                }
            }
        }
    }
}

impl PortIo for Devices<'_> {
    fn input(&mut self, port: u16, size: u8) -> u32 {
        Width::from_bytes(u32::from(size)).map_or(0, |width| self.machine.read_port(self.by, port, width, self.now))
    }

    fn output(&mut self, port: u16, size: u8, value: u32) {
        if let Some(width) = Width::from_bytes(u32::from(size)) {
            self.power = self.machine.write_port(self.by, port, width, value, self.now).or(self.power);
        }
    }
}

impl Monitor {
    /// Handles the exit that the state page tells of. Something if it ends the guest.
    #[inline(always)]
    pub(crate) fn hardware_exit(&mut self) -> Option<End> {
        match self.processor.state().exit_reason & 0xffff {
            reason::CPUID => self.cpuid(),
            reason::IO => return self.port(),
            reason::APIC_WRITE => {
                let offset = self.processor.state().exit_qualification as u32;
                self.guest.machine.apic_written(&mut self.model, offset, time::now());
                self.follow_addresses();
            }
            reason::EPT_VIOLATION | reason::EPT_MISCONFIGURATION | reason::APIC_ACCESS => return self.memory_access(),
            reason::RDMSR => self.read_msr(),
            reason::WRMSR => self.write_msr(),
            reason::HLT => {
                self.skip();
                // An interrupt may have come while STI held it back, or been posted just now; a single-step trap is due.
                self.model.take_posted();
                let interrupted = self.processor.state().rflags & INTERRUPT_FLAG != 0 && self.model.will_deliver();
                if !interrupted && !self.is_trapping() {
                    self.activity = Activity::Halted;
                }
            }
            reason::INTERRUPT_WINDOW | reason::NMI_WINDOW | reason::TPR_BELOW_THRESHOLD => {}
            other => return self.rare_exit(other),
        }
        None
    }

    #[cold]
    fn rare_exit(&mut self, reason: u64) -> Option<End> {
        match reason {
            reason::CONTROL_REGISTER => self.control_register(),
            reason::DEBUG_REGISTER => self.debug_register(),
            reason::VIRTUALIZED_EOI => {
                let vector = self.processor.state().exit_qualification as u8;
                self.guest.machine.interrupt_ended(&mut self.model, vector);
            }
            reason::XSETBV => self.set_extended_control(),
            // Caches are coherent, and the guest's devices do not bypass them.
            reason::INVD | reason::WBINVD | reason::PAUSE => self.skip(),
            reason::RDPMC => self.raise(Exception::GeneralProtection),
            // Shadow tables cannot express the access: a write of the system's to a read-only page of programs, with SMAP.
            reason::EXCEPTION if self.processor.state().interruption & TYPE_AND_VECTOR == PAGE_FAULT => {
                return self.memory_access();
            }
            reason::EXCEPTION => self.reflect(),
            reason::TRIPLE_FAULT => {
                self.describe();
                return Some(End::Crashed("the guest crashed: triple fault"));
            }
            reason::TASK_SWITCH => {
                self.describe();
                return Some(End::Crashed("the guest switched tasks by hardware, which is not emulated"));
            }
            // VMX instructions, MONITOR and MWAIT, GETSEC: the guest was told that there are none.
            _ => self.raise(Exception::InvalidOpcode),
        }
        None
    }

    /// RIP moves behind the instruction that exited.
    #[inline]
    pub(crate) fn skip(&mut self) {
        let state = self.processor.state_mut();
        let length = state.instruction_length;
        // Linear addresses above 4 GiB exist in 64-bit code only, and 64-bit code ends at none below: a wrap at 32 bits can be
        // told by RIP itself.
        let wide = state.rip >> 32 != 0 || state.rip.wrapping_add(u64::from(length)) >> 32 == 0;
        emulate::advance(state, length, wide);
    }

    #[inline(always)]
    fn cpuid(&mut self) {
        let state = self.processor.state();
        let (leaf, subleaf) = (state.registers[register::RAX] as u32, state.registers[register::RCX] as u32);
        if leaf == 1 || leaf == 0xd {
            self.refresh_extended_states();
        }
        let [eax, ebx, ecx, edx] = self.model.cpuid(leaf, subleaf);
        let state = self.processor.state_mut();
        state.registers[register::RAX] = eax.into();
        state.registers[register::RBX] = ebx.into();
        state.registers[register::RCX] = ecx.into();
        state.registers[register::RDX] = edx.into();
        self.skip();
    }

    #[inline(always)]
    fn port(&mut self) -> Option<End> {
        let now = time::now();
        let exit = PioExit::new(self.processor.state().exit_qualification);
        let mut power = None;
        if exit.string {
            power = self.string_port(now);
        } else if let Some(width) = Width::from_bytes(u32::from(exit.size)) {
            if exit.input {
                let value = self.guest.machine.read_port(&self.model, exit.port, width, now);
                emulate::complete_in(self.processor.state_mut(), exit.size, value);
            } else {
                let value = exit.output_value(self.processor.state());
                power = self.guest.machine.write_port(&self.model, exit.port, width, value, now);
            }
            self.skip();
        }
        if exit.port >= self.notable_ports {
            if self.watching {
                self.port_watched(exit.port, exit.size);
            }
            if is_pci(exit.port) {
                self.driver_events();
            } else if exit.port & 0xfff8 == SERIAL_PORTS {
                self.receive();
            }
        }
        power.map(End::from)
    }

    #[cold]
    fn string_port(&mut self, now: u64) -> Option<PowerEvent> {
        self.require(emulate::REQUIRED);
        if self.watching {
            return self.string_port_watched(now);
        }
        let ram = self.guest.ram;
        let mut devices = Devices { machine: &self.guest.machine, by: &mut self.model, now, power: None };
        let outcome = emulate::emulate_string_pio(self.processor.state_mut(), &ram, &mut devices);
        let power = devices.power;
        self.finish(outcome);
        power
    }

    fn memory_access(&mut self) -> Option<End> {
        let state = self.processor.state_mut();
        if state.idt_vectoring & VALID != 0 {
            // The access was part of the delivery of an event, which must be delivered again.
            state.injection = state.idt_vectoring & INJECTABLE;
            state.injection_error_code = state.idt_vectoring_error_code;
            state.injection_length = state.instruction_length;
            state.dirty |= StateGroups::INJECTION.bits();
            self.describe();
            return Some(End::Crashed("the guest's descriptor tables or stack are not in its memory"));
        }
        if self.watching {
            return self.memory_access_watched();
        }
        let hint = Hint::from_exit(state);
        let ram = self.guest.ram;
        let mut devices = Devices { machine: &self.guest.machine, by: &mut self.model, now: time::now(), power: None };
        let outcome = emulate::emulate(self.processor.state_mut(), &ram, &mut devices, &mut self.cache, hint);
        let address = self.processor.state().guest_physical;
        if outcome != Outcome::Done
            && let Some(end) = self.incomplete(outcome)
        {
            return Some(end);
        }
        if address & 0xffff_f000 == LOCAL_APIC {
            self.follow_addresses();
        } else {
            self.driver_events();
        }
        None
    }

    /// An emulated access to memory did not complete its instruction. Something if that ends the guest.
    #[cold]
    pub(crate) fn incomplete(&mut self, outcome: Outcome) -> Option<End> {
        match outcome {
            Outcome::Unsupported { .. } if !self.has_segments() => return self.memory_access_watched(),
            Outcome::Unsupported { bytes } => {
                println!("vmm: cannot emulate the instruction {bytes:02x?}");
                self.describe();
                return Some(End::Crashed("the guest accessed a device with an instruction that is not emulated"));
            }
            Outcome::Done | Outcome::Again | Outcome::Exception(_) => self.finish(outcome),
        }
        None
    }

    pub(crate) fn has_segments(&self) -> bool {
        let state = self.processor.state();
        (state.valid | state.dirty) & StateGroups::SEGMENTS.bits() != 0
    }

    pub(crate) fn finish(&mut self, outcome: Outcome) {
        if let Outcome::Exception(exception) = outcome {
            if let Exception::PageFault(fault) = exception {
                self.processor.state_mut().cr2 = fault.address.0;
            }
            self.raise(exception);
        }
    }

    /// An exception that the kernel intercepts is the guest's own: it gets it back.
    fn reflect(&mut self) {
        let state = self.processor.state_mut();
        state.injection = state.interruption & INJECTABLE;
        if state.interruption & HAS_ERROR_CODE != 0 {
            state.injection_error_code = state.interruption_error_code;
        }
        state.injection_length = state.instruction_length;
        state.dirty |= StateGroups::INJECTION.bits();
    }

    /// Whether the guest runs 64-bit code; its segments must be valid.
    pub(crate) fn is_long(&self) -> bool {
        let state = self.processor.state();
        state.efer & LONG_MODE != 0 && state.segments[segment::CS].access & LONG_CODE != 0
    }
}

/// First port of the serial port.
pub(crate) const SERIAL_PORTS: u16 = 0x3f8;
/// Where the local APIC is, as systems leave it.
const LOCAL_APIC: u64 = 0xfee0_0000;

/// Whether an access to the port may have changed a PCI function.
const fn is_pci(port: u16) -> bool {
    port >= 0x1000 || port & 0xfff8 == 0xcf8
}
