//! Debug exceptions where the processor does not raise them itself: after instructions that were completed in software, and for
//! the accesses that these made; and MOV to and from debug registers.

use crate::exits::{Devices, SERIAL_PORTS};
use crate::guest::End;
use crate::monitor::Monitor;
use bulkhead_machine::devices::power::PowerEvent;
use bulkhead_machine::emulate::{self, Access, Exception, Hint, Mmio, Outcome, PortIo};
use bulkhead_machine::memory::{GuestLinear, GuestPhysical};
use bulkhead_machine::policy::debug::{self, Breakpoints, dr6, dr7};
use bulkhead_runtime::abi::StateGroups;
use bulkhead_runtime::time;
use core::cell::Cell;

/// Groups that hold the breakpoints.
const BREAKPOINTS: StateGroups = StateGroups::DEBUG.union(StateGroups::SYSTEM_REGISTERS);
/// CR4.DE.
const DEBUGGING_EXTENSIONS: u64 = 1 << 3;
/// RFLAGS.TF.
const TRAP_FLAG: u64 = 1 << 8;

/// The devices, for an access while breakpoints on data are set.
struct Watched<'a> {
    devices: Devices<'a>,
    breakpoints: Breakpoints,
    pending: Cell<u64>,
}

impl Mmio for Watched<'_> {
    const STEPWISE: bool = true;

    fn read(&mut self, address: GuestPhysical, size: u8) -> u64 {
        self.devices.read(address, size)
    }

    fn write(&mut self, address: GuestPhysical, size: u8, value: u64) {
        self.devices.write(address, size, value);
    }

    fn accessed(&self, linear: GuestLinear, size: u8, access: Access) {
        let met = self.breakpoints.on_data(linear.0, size, access == Access::Write);
        self.pending.set(self.pending.get() | met);
    }
}

impl PortIo for Watched<'_> {
    fn input(&mut self, port: u16, size: u8) -> u32 {
        self.devices.input(port, size)
    }

    fn output(&mut self, port: u16, size: u8, value: u32) {
        self.devices.output(port, size, value);
    }
}

impl Monitor {
    /// A debug exception is due before the next instruction.
    fn trap(&mut self, pending: u64) {
        self.require(StateGroups::PENDING_DEBUG);
        let state = self.processor.state_mut();
        state.pending_debug |= pending;
        state.dirty |= StateGroups::PENDING_DEBUG.bits();
    }

    /// Whether a debug exception comes before any interrupt. To inject an event would drop it (SDM vol. 3, 27.7.3).
    #[inline]
    pub(crate) fn is_trapping(&mut self) -> bool {
        if !self.watching && self.processor.state().rflags & TRAP_FLAG == 0 {
            return false;
        }
        self.require(StateGroups::PENDING_DEBUG);
        self.processor.state().pending_debug != 0
    }

    fn breakpoints(&mut self) -> Breakpoints {
        self.require(BREAKPOINTS);
        Breakpoints::new(self.processor.state())
    }

    /// An access to memory that is completed in software, with breakpoints on data or segments that matter.
    #[cold]
    pub(crate) fn memory_access_watched(&mut self) -> Option<End> {
        self.require(emulate::REQUIRED | BREAKPOINTS);
        let breakpoints = self.breakpoints();
        let hint = Hint::from_exit(self.processor.state());
        let ram = self.guest.ram;
        let devices = Devices { machine: &self.guest.machine, by: &mut self.model, now: time::now(), power: None };
        let mut watched = Watched { devices, breakpoints, pending: Cell::new(0) };
        let outcome = emulate::emulate(self.processor.state_mut(), &ram, &mut watched, &mut self.cache, hint);
        let pending = watched.pending.get();
        self.trap_after(outcome, pending);
        self.driver_events();
        if !self.has_segments() {
            return Some(End::Crashed("the kernel does not tell the guest's segments"));
        }
        self.incomplete(outcome)
    }

    /// The same for INS and OUTS.
    #[cold]
    pub(crate) fn string_port_watched(&mut self, now: u64) -> Option<PowerEvent> {
        let breakpoints = self.breakpoints();
        let ram = self.guest.ram;
        let devices = Devices { machine: &self.guest.machine, by: &mut self.model, now, power: None };
        let mut watched = Watched { devices, breakpoints, pending: Cell::new(0) };
        let outcome = emulate::emulate_string_pio(self.processor.state_mut(), &ram, &mut watched);
        let (pending, power) = (watched.pending.get(), watched.devices.power);
        self.finish(outcome);
        self.trap_after(outcome, pending);
        power
    }

    fn trap_after(&mut self, outcome: Outcome, pending: u64) {
        if pending != 0 && matches!(outcome, Outcome::Done | Outcome::Again) {
            self.trap(pending);
        }
    }

    /// A port was accessed while breakpoints are set.
    #[cold]
    pub(crate) fn port_watched(&mut self, port: u16, size: u8) {
        self.require(StateGroups::CONTROL_REGISTERS);
        if self.processor.state().cr4 & DEBUGGING_EXTENSIONS != 0 {
            let pending = self.breakpoints().on_ports(port, size);
            if pending != 0 {
                self.trap(pending);
            }
        }
    }

    /// MOV to and from debug registers.
    pub(crate) fn debug_register(&mut self) {
        self.require(BREAKPOINTS | StateGroups::RSP | StateGroups::SEGMENTS | StateGroups::CONTROL_REGISTERS);
        match self.access_debug_register() {
            Ok(()) => self.skip(),
            Err(exception) => self.raise(exception),
        }
        let any = self.breakpoints().any();
        self.watch(any);
    }

    /// Breakpoints on data or ports are set, or no longer.
    pub(crate) fn watch(&mut self, watching: bool) {
        self.watching = watching;
        self.notable_ports = if watching { 0 } else { SERIAL_PORTS };
    }

    fn access_debug_register(&mut self) -> Result<(), Exception> {
        let wide = self.is_long();
        let state = self.processor.state_mut();
        let qualification = state.exit_qualification;
        let (number, read) = (qualification & 7, qualification & 1 << 4 != 0);
        let operand = (qualification >> 8 & 0xf) as u8;
        if emulate::privilege(state) != 0 {
            return Err(Exception::GeneralProtection);
        }
        let number = match number {
            4 | 5 if state.cr4 & DEBUGGING_EXTENSIONS != 0 => return Err(Exception::InvalidOpcode),
            4 | 5 => number + 2,
            _ => number,
        };
        if state.dr7 & dr7::GENERAL_DETECT != 0 {
            state.dr7 &= !dr7::GENERAL_DETECT;
            state.dr6 |= dr6::DEBUG_REGISTER;
            state.dirty |= BREAKPOINTS.bits();
            return Err(Exception::Debug);
        }
        if read {
            let value = match number {
                6 => state.dr6,
                7 => state.dr7,
                _ => state.dr.get(number as usize).copied().unwrap_or(0),
            };
            emulate::write_register(state, operand, if wide { 8 } else { 4 }, value);
            return Ok(());
        }
        let value = emulate::read_register(state, operand);
        let value = if wide { value } else { value & 0xffff_ffff };
        match number {
            6 => state.dr6 = debug::status(value)?,
            7 => {
                state.dr7 = debug::control(value)?;
                state.dirty |= StateGroups::SYSTEM_REGISTERS.bits();
                return Ok(());
            }
            _ => {
                if let Some(register) = state.dr.get_mut(number as usize) {
                    *register = value;
                }
            }
        }
        state.dirty |= StateGroups::DEBUG.bits();
        Ok(())
    }
}
