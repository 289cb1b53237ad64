//! Port I/O exits (SDM vol. 3, table 28-5): the plain forms need the exit qualification alone, INS and OUTS also memory.

use super::instruction::Mode;
use super::operand::Machine;
use super::registers;
use super::registers::{advance, mask, read_register, write_register};
use super::strings::{batch, step};
use super::walk::{Access, Paging};
use super::{Mmio, Outcome, Stop};
use crate::memory::GuestMemory;
use bulkhead_abi::{VcpuState, register, segment};

const RCX: u8 = register::RCX as u8;
const RSI: u8 = register::RSI as u8;
const RDI: u8 = register::RDI as u8;

/// I/O ports.
pub trait PortIo {
    /// Reads `size` (1, 2 or 4) bytes from `port`.
    fn input(&mut self, port: u16, size: u8) -> u32;

    /// Writes the low `size` bytes of `value` to `port`.
    fn output(&mut self, port: u16, size: u8, value: u32);
}

/// What an I/O instruction wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PioExit {
    /// Port.
    pub port: u16,
    /// 1, 2 or 4 bytes.
    pub size: u8,
    /// IN or INS.
    pub input: bool,
    /// INS or OUTS: to be completed by [`emulate_string_pio`].
    pub string: bool,
    /// A string form with a REP prefix.
    pub repeated: bool,
}

impl PioExit {
    /// Decodes an exit qualification.
    #[inline]
    pub const fn new(qualification: u64) -> Self {
        Self {
            port: (qualification >> 16) as u16,
            // The field says 0, 1 or 3.
            size: (qualification as u8 & 3) + 1,
            input: qualification & 1 << 3 != 0,
            string: qualification & 1 << 4 != 0,
            repeated: qualification & 1 << 5 != 0,
        }
    }

    /// What OUT writes.
    #[inline]
    pub const fn output_value(&self, state: &VcpuState) -> u32 {
        state.registers[register::RAX] as u32 & mask(self.size) as u32
    }
}

/// Completes an IN with `value`; RIP moves on by [`advance`].
#[inline]
pub fn complete_in(state: &mut VcpuState, size: u8, value: u32) {
    write_register(state, register::RAX as u8, size, u64::from(value));
}

/// Completes an INS or OUTS, in batches if it is repeated. The exit's instruction information must be valid.
pub fn emulate_string_pio<M: GuestMemory, D: Mmio + PortIo>(
    state: &mut VcpuState,
    memory: &M,
    device: &mut D,
) -> Outcome {
    let exit = PioExit::new(state.exit_qualification);
    let mode = Mode::new(state);
    let paging = Paging::new(state);
    let information = state.instruction_information;
    let address_width = match information >> 7 & 7 {
        0 => 2,
        1 => 4,
        2 => 8,
        _ => return Outcome::Unsupported { bytes: [0; 15] },
    };
    let source_segment = match information >> 15 & 7 {
        index @ 0..=5 => index as u8,
        _ => return Outcome::Unsupported { bytes: [0; 15] },
    };
    let mut machine = Machine { state, memory, device, paging, mode, hint: None };
    match transfer(&mut machine, exit, address_width, source_segment) {
        Ok(true) => {
            advance(state, state.instruction_length, mode == Mode::Bits64);
            Outcome::Done
        }
        Ok(false) => {
            registers::step(state);
            Outcome::Again
        }
        Err(Stop::Exception(exception)) => Outcome::Exception(exception),
        Err(Stop::Unsupported) => Outcome::Unsupported { bytes: [0; 15] },
    }
}

/// Moves the elements of an INS or OUTS; one batch of them if it is repeated. Whether the instruction is complete.
pub fn transfer<M: GuestMemory, D: Mmio + PortIo>(
    machine: &mut Machine<'_, M, D>,
    exit: PioExit,
    address_width: u8,
    source_segment: u8,
) -> Result<bool, Stop> {
    let iterations = if exit.repeated { batch(machine) } else { 1 };
    for _ in 0..iterations {
        let count = read_register(machine.state, RCX) & mask(address_width);
        if exit.repeated && count == 0 {
            return Ok(true);
        }
        if exit.input {
            let offset = read_register(machine.state, RDI) & mask(address_width);
            let target = machine.locate(segment::ES as u8, offset, exit.size, Access::Write)?;
            let value = machine.device.input(exit.port, exit.size);
            machine.write(&target, u64::from(value));
            step(machine, RDI, address_width, exit.size);
        } else {
            let offset = read_register(machine.state, RSI) & mask(address_width);
            let source = machine.locate(source_segment, offset, exit.size, Access::Read)?;
            let value = machine.read(&source) as u32;
            machine.device.output(exit.port, exit.size, value);
            step(machine, RSI, address_width, exit.size);
        }
        if exit.repeated {
            write_register(machine.state, RCX, address_width, count - 1);
        }
    }
    Ok(!exit.repeated || read_register(machine.state, RCX) & mask(address_width) == 0)
}

#[cfg(test)]
mod test {
    use super::*;
    use crate::emulate::mmio_test::state_64;
    use crate::memory::GuestPhysical;
    use alloc::vec::Vec;

    #[derive(Default)]
    struct Ports(Vec<(u16, u8, u32)>);

    impl PortIo for Ports {
        fn input(&mut self, port: u16, size: u8) -> u32 {
            self.0.push((port, size, 0));
            0x1122_3300 + self.0.len() as u32
        }

        fn output(&mut self, port: u16, size: u8, value: u32) {
            self.0.push((port, size, value));
        }
    }

    impl Mmio for Ports {
        fn read(&mut self, _: GuestPhysical, _: u8) -> u64 {
            0
        }

        fn write(&mut self, _: GuestPhysical, _: u8, _: u64) {}
    }

    #[test]
    fn plain_forms() {
        let exit = PioExit::new(0x03f8_0008);
        assert_eq!(exit, PioExit { port: 0x3f8, size: 1, input: true, string: false, repeated: false });
        let (mut state, _) = state_64(&[]);
        state.registers[register::RAX] = 0xffff_ffff_ffff_ff00;
        complete_in(&mut state, 1, 0x5a);
        assert_eq!(state.registers[register::RAX], 0xffff_ffff_ffff_ff5a);
        complete_in(&mut state, 4, 7);
        assert_eq!(state.registers[register::RAX], 7);
        assert_eq!(PioExit::new(0x03f8_0001).output_value(&state), 7);
    }

    #[test]
    fn repeated_input_crosses_pages() {
        let (mut state, memory) = state_64(&[0xf3, 0x66, 0x6d]);
        state.exit_qualification = 0x01f0_0039;
        state.instruction_information = 2 << 7;
        state.instruction_length = 3;
        state.registers[register::RCX] = 3;
        state.registers[register::RDI] = 0x1ffd;
        let mut ports = Ports::default();
        let rip = state.rip;
        assert_eq!(emulate_string_pio(&mut state, &memory, &mut ports), Outcome::Done);
        assert_eq!(memory.bytes(0x1ffd, 6), [0x01, 0x33, 0x02, 0x33, 0x03, 0x33]);
        assert_eq!((state.registers[register::RCX], state.registers[register::RDI]), (0, 0x2003));
        assert_eq!(state.rip, rip + 3);
    }

    #[test]
    fn long_output_goes_in_batches() {
        let (mut state, memory) = state_64(&[0xf3, 0x6e]);
        memory.fill(GuestPhysical(0x2000), 2000, 0x41).unwrap();
        state.exit_qualification = 0x00e9_0030;
        state.instruction_information = 2 << 7 | 3 << 15;
        state.instruction_length = 2;
        state.registers[register::RCX] = 1025;
        state.registers[register::RSI] = 0x2000;
        let mut ports = Ports::default();
        let rip = state.rip;
        assert_eq!(emulate_string_pio(&mut state, &memory, &mut ports), Outcome::Again);
        assert_eq!((state.rip, state.registers[register::RCX]), (rip, 1));
        assert_eq!(emulate_string_pio(&mut state, &memory, &mut ports), Outcome::Done);
        assert_eq!(ports.0.len(), 1025);
        assert!(ports.0.iter().all(|&write| write == (0xe9, 1, 0x41)));
        assert_eq!(state.rip, rip + 2);
    }
}
