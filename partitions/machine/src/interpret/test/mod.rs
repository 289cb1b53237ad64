//! The interpreter as a guest sees it.

mod boot;
mod bulk;
mod coverage;
mod locked;
mod protected;
mod random;
mod real;

use super::*;
use crate::arbitration::Arbitration;
use crate::loader::BootState;
use crate::memory::test::VecMemory;
use crate::memory::{GuestMemory, GuestPhysical};
use crate::policy::cpuid::{CpuidParameters, CpuidTable};
use crate::policy::state::StateRegister;
use alloc::vec::Vec;
use bulkhead_abi::{Segment, StateGroups, register, segment};
use zerocopy::FromZeros;

const RAX: usize = register::RAX;
const RCX: usize = register::RCX;
const RDX: usize = register::RDX;
const RBX: usize = register::RBX;
const RSI: usize = register::RSI;
const RDI: usize = register::RDI;

/// Where code is put.
const CODE: u64 = 0x1200;
/// Top of the stack.
const STACK: u64 = 0x8000;
/// First handler of [`Guest::catch`]; they are 16 bytes apart.
const HANDLERS: u64 = 0x5000;

/// Records what the guest does to its machine.
struct World {
    control: ControlPolicy,
    outputs: Vec<(u16, u8, u32)>,
    device: Vec<(u64, u8, Option<u64>)>,
    /// What the next input reads; each reads one more.
    input: u32,
    off: bool,
}

impl World {
    fn new() -> Self {
        let parameters = CpuidParameters {
            processors: 1,
            tsc_hertz: 1_000_000_000,
            xcr0_mask: 7,
            physical_address_bits: 40,
            x2apic: false,
            pcid: false,
            rdtscp: false,
            speculation_control: false,
            kvm_leaves: false,
            withheld: Default::default(),
        };
        let host = |leaf: u32, _: u32| match leaf {
            0 => [0xd, 0, 0, 0],
            0x8000_0000 => [0x8000_0008, 0, 0, 0],
            _ => [u32::MAX; 4],
        };
        let control = ControlPolicy::new(&CpuidTable::new(&parameters, 0, host));
        Self { control, outputs: Vec::new(), device: Vec::new(), input: 0x1122_3301, off: false }
    }
}

impl Mmio for World {
    fn read(&mut self, address: GuestPhysical, size: u8) -> u64 {
        self.device.push((address.0, size, None));
        0x90
    }

    fn write(&mut self, address: GuestPhysical, size: u8, value: u64) {
        self.device.push((address.0, size, Some(value)));
    }
}

impl PortIo for World {
    fn input(&mut self, _: u16, _: u8) -> u32 {
        self.input += 1;
        self.input - 1
    }

    fn output(&mut self, port: u16, size: u8, value: u32) {
        self.off |= port == crate::devices::power::CONTROL_PORT;
        self.outputs.push((port, size, value));
    }
}

impl Environment for World {
    fn control(&self) -> ControlPolicy {
        self.control
    }

    fn cpuid(&mut self, _: &VcpuState, leaf: u32, subleaf: u32) -> [u32; 4] {
        [leaf, subleaf, 3, 1 << 29]
    }

    fn read_msr(&mut self, index: u32) -> Result<MsrRead, GeneralProtection> {
        match index {
            0x10 => Ok(MsrRead::Value(0x5_0000_0007)),
            0xc000_0080 => Ok(MsrRead::State(StateRegister::Efer)),
            _ => Err(GeneralProtection),
        }
    }

    fn write_msr(&mut self, index: u32, value: u64) -> Result<MsrWrite, GeneralProtection> {
        match index {
            0xc000_0080 => Ok(MsrWrite::Efer(value)),
            0x174 => Ok(MsrWrite::State(StateRegister::SysenterCs, value)),
            _ => Err(GeneralProtection),
        }
    }

    fn time_stamp(&mut self) -> u64 {
        1000
    }

    fn attention(&self) -> bool {
        self.off
    }
}

/// A processor, its memory and its world.
struct Guest {
    state: VcpuState,
    memory: VecMemory,
    world: World,
    cache: InstructionCache,
}

impl Guest {
    fn new(boot: &BootState, code: &[u8]) -> Self {
        let memory = VecMemory::new(4 << 20);
        let mut state = VcpuState::new_zeroed();
        boot.apply(&mut state);
        state.dirty = 0;
        state.valid = StateGroups::all().bits();
        state.rsp = STACK;
        memory.write(GuestPhysical(CODE), code).unwrap();
        Self { state, memory, world: World::new(), cache: InstructionCache::new() }
    }

    /// Real mode, at `code`.
    fn real(code: &[u8]) -> Self {
        Self::new(&BootState::real_mode(CODE as u16), code)
    }

    /// 32-bit protected mode without paging, flat segments, at `code`; the IDT is empty.
    fn protected(code: &[u8]) -> Self {
        let guest = Self::new(&BootState::protected_mode(CODE as u32, STACK as u32), code);
        crate::loader::write_gdt(&guest.memory, false).unwrap();
        guest
    }

    /// Makes every vector's handler a HLT: [`Self::caught`] tells which one was reached.
    fn catch(&mut self) {
        const TABLE: u64 = 0x4000;
        for vector in 0..64 {
            let handler = HANDLERS + 16 * vector;
            if self.state.cr0 & 1 == 0 {
                self.memory.write_u32(4 * vector, handler as u32);
            } else {
                self.memory.write_u64(TABLE + 8 * vector, handler & 0xffff | 0x8e00_0010_0000);
            }
            self.memory.write(GuestPhysical(handler), &[0xf4]).unwrap();
        }
        let (base, limit) = if self.state.cr0 & 1 == 0 { (0, 0xff) } else { (TABLE, 0x1ff) };
        self.state.idtr = Segment { base, limit, access: 0, selector: 0 };
    }

    fn run(&mut self, limit: u32) -> Stopped {
        run(&mut self.state, &self.memory, &mut self.world, &mut self.cache, limit)
    }

    /// Executes `count` instructions, none of which stops the run.
    fn step(&mut self, count: u32) {
        assert_eq!(self.run(count), Stopped::Limit, "at {:#x}", self.state.rip);
    }

    /// Runs into a handler of [`Self::catch`]; its vector.
    fn caught(&mut self) -> u64 {
        assert_eq!(self.run(100), Stopped::Halted, "at {:#x}", self.state.rip);
        (self.state.rip - 1 - HANDLERS) / 16
    }

    /// The double word `index` places above the top of the stack.
    fn stacked_32(&self, index: u64) -> u32 {
        self.memory.u32(self.state.rsp + 4 * index)
    }

    fn stacked_16(&self, index: u64) -> u16 {
        self.memory.read_u16(GuestPhysical(self.state.rsp + 2 * index)).unwrap()
    }

    fn inject(&mut self, injection: u32) {
        self.state.injection = injection;
        self.state.dirty |= StateGroups::INJECTION.bits();
    }
}
