//! The interpreter's arithmetic against that of the real processor: the same bytes are executed by both, on thousands of operands.
#![cfg(target_arch = "x86_64")]

#[path = "interpreter/native.rs"]
mod native;

use bulkhead_abi::{Segment, StateGroups, VcpuState, register};
use bulkhead_machine::emulate::{Mmio, PortIo};
use bulkhead_machine::interpret::{self, Environment, InstructionCache, Stopped};
use bulkhead_machine::loader::BootState;
use bulkhead_machine::memory::{GuestMemory, GuestPhysical, MemoryLayout, OutOfGuest};
use bulkhead_machine::policy::GeneralProtection;
use bulkhead_machine::policy::control::ControlPolicy;
use bulkhead_machine::policy::msr::{MsrRead, MsrWrite};
use native::{CASES, Case, Registers};
use std::cell::RefCell;
use zerocopy::FromZeros;

const ROUNDS: u32 = 2000;
const CODE: u32 = 0x1000;
const IDT: u64 = 0x2000;
const HANDLER: u64 = 0x3000;

struct Ram(RefCell<Vec<u8>>);

impl GuestMemory for Ram {
    fn layout(&self) -> MemoryLayout {
        MemoryLayout::new(self.0.borrow().len() as u64)
    }

    fn read(&self, address: GuestPhysical, buffer: &mut [u8]) -> Result<(), OutOfGuest> {
        let start = address.0 as usize;
        let length = buffer.len();
        let bytes = self.0.borrow();
        let source = bytes.get(start..start + length).ok_or(OutOfGuest { address, length: length as u64 })?;
        buffer.copy_from_slice(source);
        Ok(())
    }

    fn write(&self, address: GuestPhysical, bytes: &[u8]) -> Result<(), OutOfGuest> {
        let start = address.0 as usize;
        let mut ram = self.0.borrow_mut();
        let target =
            ram.get_mut(start..start + bytes.len()).ok_or(OutOfGuest { address, length: bytes.len() as u64 })?;
        target.copy_from_slice(bytes);
        Ok(())
    }

    fn replace_u32(&self, address: GuestPhysical, expected: u32, new: u32) -> Result<bool, OutOfGuest> {
        let found = self.read_u32(address)? == expected;
        if found {
            self.write(address, &new.to_le_bytes())?;
        }
        Ok(found)
    }
}

/// Arithmetic asks for nothing.
struct Nothing;

impl Mmio for Nothing {
    fn read(&mut self, _: GuestPhysical, _: u8) -> u64 {
        unreachable!()
    }

    fn write(&mut self, _: GuestPhysical, _: u8, _: u64) {
        unreachable!()
    }
}

impl PortIo for Nothing {
    fn input(&mut self, _: u16, _: u8) -> u32 {
        unreachable!()
    }

    fn output(&mut self, _: u16, _: u8, _: u32) {
        unreachable!()
    }
}

impl Environment for Nothing {
    fn control(&self) -> ControlPolicy {
        unreachable!()
    }

    fn cpuid(&mut self, _: &VcpuState, _: u32, _: u32) -> [u32; 4] {
        unreachable!()
    }

    fn read_msr(&mut self, _: u32) -> Result<MsrRead, GeneralProtection> {
        unreachable!()
    }

    fn write_msr(&mut self, _: u32, _: u64) -> Result<MsrWrite, GeneralProtection> {
        unreachable!()
    }

    fn time_stamp(&mut self) -> u64 {
        unreachable!()
    }

    fn attention(&self) -> bool {
        false
    }
}

/// Random numbers among which the interesting ones are frequent.
struct Operands(u64);

impl Operands {
    fn next(&mut self) -> u32 {
        const EDGES: [u32; 12] =
            [0, 1, 2, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let value = (self.0 >> 16) as u32;
        match self.0 & 7 {
            0 | 1 => EDGES[value as usize % EDGES.len()],
            2 => value & 0x1f,
            3 => value >> 16,
            _ => value,
        }
    }
}

/// A 32-bit guest whose divide-error handler is at [`HANDLER`].
fn guest() -> Ram {
    let ram = Ram(RefCell::new(vec![0; 0x10000]));
    bulkhead_machine::loader::write_gdt(&ram, false).unwrap();
    let gate = HANDLER & 0xffff | 0x10 << 16 | 0x8e00 << 32;
    ram.write(GuestPhysical(IDT), &gate.to_le_bytes()).unwrap();
    ram
}

/// Executes one instruction by the interpreter. Nothing if it ends in the handler.
fn interpreted(ram: &Ram, cache: &mut InstructionCache, length: usize, before: Registers) -> Option<Registers> {
    let mut state = VcpuState::new_zeroed();
    BootState::protected_mode(CODE, 0x8000).apply(&mut state);
    state.idtr = Segment { base: IDT, limit: 7, access: 0, selector: 0 };
    state.dirty = 0;
    state.valid = StateGroups::all().bits();
    state.registers[register::RAX] = before.eax.into();
    state.registers[register::RCX] = before.ecx.into();
    state.registers[register::RDX] = before.edx.into();
    state.rflags = before.flags;
    assert_eq!(interpret::run(&mut state, ram, &mut Nothing, cache, 1), Stopped::Limit);
    if state.rip == HANDLER {
        return None;
    }
    assert_eq!(state.rip, u64::from(CODE) + length as u64);
    Some(Registers {
        eax: state.registers[register::RAX] as u32,
        ecx: state.registers[register::RCX] as u32,
        edx: state.registers[register::RDX] as u32,
        flags: state.rflags,
    })
}

fn check(case: &Case, ram: &Ram, cache: &mut InstructionCache, operands: &mut Operands) {
    const ARITHMETIC: u64 = 0x8d5;
    ram.write(GuestPhysical(CODE.into()), &[0x90; 16]).unwrap();
    ram.write(GuestPhysical(CODE.into()), case.bytes).unwrap();
    for _ in 0..ROUNDS {
        let mut before = Registers {
            eax: operands.next(),
            ecx: operands.next(),
            edx: operands.next(),
            flags: u64::from(operands.next()) & ARITHMETIC | 2,
        };
        (case.prepare)(&mut before);
        let after = interpreted(ram, cache, case.bytes.len(), before);
        if (case.faults)(&before) {
            assert_eq!(after, None, "{} must fault on {before:x?}", case.name);
            continue;
        }
        let after = after.unwrap_or_else(|| panic!("{} must not fault on {before:x?}", case.name));
        let mut real = before;
        (case.native)(&mut real);
        let defined = ARITHMETIC & !(case.undefined)(&before);
        let known = |registers: Registers| Registers { flags: registers.flags & defined, ..registers };
        assert_eq!(known(after), known(real), "{} {:02x?} on {before:x?}", case.name, case.bytes);
    }
}

#[test]
fn arithmetic_is_that_of_the_processor() {
    let ram = guest();
    let mut cache = InstructionCache::new();
    let mut operands = Operands(0x9e37_79b9_7f4a_7c15);
    for case in CASES.into_iter().flatten() {
        check(case, &ram, &mut cache, &mut operands);
    }
}
