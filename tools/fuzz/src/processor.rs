//! Instructions that the monitor completes or interprets, in any state that a guest can be in.

use crate::{Input, ram::Ram};
use bulkhead_abi::{StateGroups, VcpuState};
use bulkhead_machine::emulate::{self, Access, DecodeCache, Hint, Mmio, PortIo};
use bulkhead_machine::interpret::{self, Environment, InstructionCache};
use bulkhead_machine::loader::{BootState, write_page_tables};
use bulkhead_machine::memory::{GuestLinear, GuestMemory, GuestPhysical};
use bulkhead_machine::policy::GeneralProtection;
use bulkhead_machine::policy::control::ControlPolicy;
use bulkhead_machine::policy::cpuid::{CpuidParameters, CpuidTable};
use bulkhead_machine::policy::msr::{MsrRead, MsrWrite};
use zerocopy::{FromZeros, IntoBytes};

/// Bytes of the guest's RAM.
const RAM: usize = 1 << 20;
/// Where code is, and where a device is.
const CODE: u64 = 0x1_0000;
const DEVICE: u64 = 0xfeb0_0000;
/// Instructions that are interpreted at most.
const LIMIT: u32 = 200;

/// Devices that answer anything, and say that there is something to look at after a while.
struct Devices {
    control: ControlPolicy,
    answer: u64,
    accesses: u32,
}

impl Devices {
    fn new(answer: u64) -> Self {
        let parameters = CpuidParameters {
            processors: 1,
            tsc_hertz: 1_000_000_000,
            xcr0_mask: 7,
            physical_address_bits: 40,
            x2apic: true,
            pcid: true,
            rdtscp: true,
            speculation_control: false,
            kvm_leaves: false,
            withheld: Default::default(),
        };
        let control =
            ControlPolicy::new(&CpuidTable::new(&parameters, 0, |leaf, _| [leaf, u32::MAX, u32::MAX, u32::MAX]));
        Self { control, answer, accesses: 0 }
    }

    fn next(&mut self, size: u8) -> u64 {
        assert!(matches!(size, 1 | 2 | 4 | 8), "an access of {size} bytes");
        self.accesses += 1;
        self.answer = self.answer.rotate_left(7) ^ u64::from(self.accesses);
        if size == 8 { self.answer } else { self.answer & ((1 << (8 * size)) - 1) }
    }
}

impl Mmio for Devices {
    fn read(&mut self, _: GuestPhysical, size: u8) -> u64 {
        self.next(size)
    }

    fn write(&mut self, _: GuestPhysical, size: u8, value: u64) {
        self.next(size);
        assert!(size == 8 || value >> (8 * size) == 0, "more than {size} bytes are written: {value:#x}");
    }

    fn accessed(&self, _: GuestLinear, size: u8, _: Access) {
        assert!(size != 0);
    }
}

impl PortIo for Devices {
    fn input(&mut self, _: u16, size: u8) -> u32 {
        self.next(size) as u32
    }

    fn output(&mut self, _: u16, size: u8, _: u32) {
        self.next(size);
    }
}

impl Environment for Devices {
    fn control(&self) -> ControlPolicy {
        self.control
    }

    fn cpuid(&mut self, _: &VcpuState, leaf: u32, subleaf: u32) -> [u32; 4] {
        [leaf, subleaf, 0, self.answer as u32]
    }

    fn read_msr(&mut self, index: u32) -> Result<MsrRead, GeneralProtection> {
        if index & 1 == 0 { Ok(MsrRead::Value(self.answer)) } else { Err(GeneralProtection) }
    }

    fn write_msr(&mut self, index: u32, value: u64) -> Result<MsrWrite, GeneralProtection> {
        match index % 4 {
            0 => Err(GeneralProtection),
            1 => Ok(MsrWrite::Efer(value)),
            2 => Ok(MsrWrite::TscOffset(value)),
            _ => Ok(MsrWrite::Done),
        }
    }

    fn time_stamp(&mut self) -> u64 {
        self.answer
    }

    fn attention(&self) -> bool {
        self.accesses > 1000
    }
}

/// A guest with random code, a mode, and registers and other state changed at random.
fn guest(input: &mut Input<'_>, paging: bool) -> (VcpuState, Ram) {
    let memory = Ram::new(RAM);
    let mode = input.byte() % 3;
    let boot = match mode {
        0 if paging => BootState::long_mode(CODE, 0x9000),
        0 | 1 => BootState::protected_mode(CODE as u32, 0x9000),
        _ => BootState::real_mode(0x1200),
    };
    if mode == 0 && paging {
        write_page_tables(&memory).expect("the tables fit the memory");
    }
    let mut state = VcpuState::new_zeroed();
    boot.apply(&mut state);
    for register in &mut state.registers {
        *register = match input.byte() % 4 {
            0 => DEVICE,
            1 => input.below(RAM as u64),
            2 => input.number(8),
            _ => u64::MAX - input.number(1),
        };
    }
    // Whatever a guest can put into its state, and what an exit tells of it.
    let changes = input.byte() % 4;
    for _ in 0..changes {
        let at = input.below(size_of::<VcpuState>() as u64) as usize;
        let byte = input.byte();
        state.as_mut_bytes()[at] = byte;
    }
    state.valid = StateGroups::all().bits();
    if state.exit_qualification & 3 == 2 {
        // The hardware knows no access to a port of three bytes.
        state.exit_qualification |= 1;
    }
    let code = input.rest();
    let start = state.rip & (RAM as u64 / 2 - 1);
    for (offset, byte) in (start..).zip(code) {
        let _ = memory.write(GuestPhysical(offset), &[*byte]);
    }
    (state, memory)
}

/// Completes an instruction whose access the hardware could not, and a string instruction on ports.
pub fn emulate(input: &mut Input<'_>) {
    let (mut state, memory) = guest(input, true);
    let mut devices = Devices::new(state.rip ^ 0x5a5a);
    let mut cache = DecodeCache::new();
    for _ in 0..4 {
        let hint = Hint::from_exit(&state);
        let _ = emulate::emulate(&mut state, &memory, &mut devices, &mut cache, hint);
    }
    let _ = emulate::emulate_string_pio(&mut state, &memory, &mut devices);
}

/// Interprets code without paging.
pub fn interpret(input: &mut Input<'_>) {
    let (mut state, memory) = guest(input, false);
    let mut devices = Devices::new(state.rip ^ 0xa5a5);
    let mut cache = Box::new(InstructionCache::new());
    let _ = interpret::run(&mut state, &memory, &mut devices, &mut cache, LIMIT);
}
