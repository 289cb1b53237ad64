//! Instructions in 64-bit and 32-bit code against a device that keeps its registers in a map.

use super::registers::flags;
use super::*;
use crate::loader::{BootState, write_page_tables};
use crate::memory::test::VecMemory;
use crate::memory::{GuestLinear, GuestMemory};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use bulkhead_abi::{StateGroups, VcpuState, register, segment};
use proptest::prelude::*;
use zerocopy::FromZeros;

/// Where the code is.
const CODE: u64 = 0x10_0000;
/// Where device registers are.
const DEVICE: u64 = 0xfeb0_0000;
const RAX: usize = register::RAX;
const RBX: usize = register::RBX;
const RCX: usize = register::RCX;
const RSI: usize = register::RSI;
const RDI: usize = register::RDI;

/// Bytes of device memory, and the accesses made.
#[derive(Default)]
pub struct Device {
    bytes: BTreeMap<u64, u8>,
    accesses: Vec<(bool, u64, u8)>,
}

impl Device {
    fn set(&mut self, address: u64, value: u64) {
        for (index, byte) in value.to_le_bytes().into_iter().enumerate() {
            self.bytes.insert(address + index as u64, byte);
        }
    }

    fn get(&self, address: u64, size: u8) -> u64 {
        (0..size).rev().fold(0, |value, index| {
            value << 8 | u64::from(self.bytes.get(&(address + u64::from(index))).copied().unwrap_or(0))
        })
    }
}

impl Mmio for Device {
    fn read(&mut self, address: GuestPhysical, size: u8) -> u64 {
        self.accesses.push((false, address.0, size));
        self.get(address.0, size)
    }

    fn write(&mut self, address: GuestPhysical, size: u8, value: u64) {
        self.accesses.push((true, address.0, size));
        for (index, byte) in value.to_le_bytes().into_iter().take(size.into()).enumerate() {
            self.bytes.insert(address.0 + index as u64, byte);
        }
    }
}

fn start(boot: BootState, code: &[u8]) -> (VcpuState, VecMemory) {
    let memory = VecMemory::new(2 << 20);
    write_page_tables(&memory).unwrap();
    memory.write(GuestPhysical(CODE), code).unwrap();
    let mut state = VcpuState::new_zeroed();
    boot.apply(&mut state);
    state.dirty = 0;
    state.valid = REQUIRED.bits();
    state.registers[RBX] = DEVICE;
    (state, memory)
}

/// A processor in 64-bit mode, with `code` at RIP, identity-mapped, RBX at the device.
pub fn state_64(code: &[u8]) -> (VcpuState, VecMemory) {
    start(BootState::long_mode(CODE, 0x9000), code)
}

/// The same in 32-bit mode without paging.
fn state_32(code: &[u8]) -> (VcpuState, VecMemory) {
    start(BootState::protected_mode(CODE as u32, 0x9000), code)
}

struct Run {
    state: VcpuState,
    memory: VecMemory,
    device: Device,
}

impl Run {
    fn go(&mut self) -> Outcome {
        let mut cache = DecodeCache::new();
        emulate(&mut self.state, &self.memory, &mut self.device, &mut cache, None)
    }
}

/// Runs one 64-bit instruction with `value` in the device.
fn run(code: &[u8], value: u64, prepare: impl FnOnce(&mut VcpuState)) -> Run {
    let (mut state, memory) = state_64(code);
    prepare(&mut state);
    let mut device = Device::default();
    device.set(DEVICE, value);
    let mut run = Run { state, memory, device };
    assert_eq!(run.go(), Outcome::Done);
    assert_eq!(run.state.rip, CODE + code.len() as u64);
    assert_ne!(run.state.dirty & StateGroups::RIP.bits(), 0);
    run
}

#[test]
fn moves() {
    // mov eax, [rbx]
    let done = run(&[0x8b, 0x03], 0x1_8765_4321, |state| state.registers[RAX] = u64::MAX);
    assert_eq!(done.state.registers[RAX], 0x8765_4321);
    assert_eq!(done.device.accesses, [(false, DEVICE, 4)]);
    // mov [rbx], ecx
    let done = run(&[0x89, 0x0b], u64::MAX, |state| state.registers[RCX] = 0x12_3456_789a);
    assert_eq!(done.device.get(DEVICE, 8), 0xffff_ffff_3456_789a);
    // mov byte [rbx+1], ch
    let done = run(&[0x88, 0x6b, 0x01], 0, |state| state.registers[RCX] = 0xab00);
    assert_eq!(done.device.get(DEVICE, 8), 0xab00);
    // mov ah, [rbx]
    let done = run(&[0x8a, 0x23], 0x55, |state| state.registers[RAX] = 0x1234);
    assert_eq!(done.state.registers[RAX], 0x5534);
    // mov qword [rbx], -2
    let done = run(&[0x48, 0xc7, 0x03, 0xfe, 0xff, 0xff, 0xff], 0, |_| ());
    assert_eq!(done.device.get(DEVICE, 8), u64::MAX - 1);
    // mov eax, [rbx+rcx*4-8]
    let done = run(&[0x8b, 0x44, 0x8b, 0xf8], 0x77, |state| state.registers[RCX] = 2);
    assert_eq!(done.state.registers[RAX], 0x77);
    // movabs eax, [0xfeb00000]
    let done = run(&[0xa1, 0, 0, 0xb0, 0xfe, 0, 0, 0, 0], 0x99, |_| ());
    assert_eq!(done.state.registers[RAX], 0x99);
    // movzx eax, byte [rbx]; movsx rax, word [rbx]; movsxd rax, [rbx]; movbe eax, [rbx]
    assert_eq!(run(&[0x0f, 0xb6, 0x03], 0x1ff, |_| ()).state.registers[RAX], 0xff);
    assert_eq!(run(&[0x48, 0x0f, 0xbf, 0x03], 0x8000, |_| ()).state.registers[RAX], 0xffff_ffff_ffff_8000);
    assert_eq!(run(&[0x48, 0x63, 0x03], 0x8000_0000, |_| ()).state.registers[RAX], 0xffff_ffff_8000_0000);
    assert_eq!(run(&[0x0f, 0x38, 0xf0, 0x03], 0x1122_3344, |_| ()).state.registers[RAX], 0x4433_2211);
}

#[test]
fn instruction_pointer_relative() {
    // mov eax, [rip + disp32], to the device
    let displacement = (DEVICE - (CODE + 6)) as u32;
    let mut code = [0x8b, 0x05, 0, 0, 0, 0];
    code[2..].copy_from_slice(&displacement.to_le_bytes());
    // The displacement is signed: from a RIP 2 GiB up.
    let (mut state, memory) = state_64(&code);
    let device_at = (CODE + 6).wrapping_add(displacement as i32 as i64 as u64) & 0xffff_ffff;
    assert_eq!(device_at, DEVICE);
    state.registers[RAX] = 1;
    let mut run = Run { state, memory, device: Device::default() };
    run.device.set(DEVICE, 0x42);
    // 0xffff_ffff_feb0_0000 is not mapped: a page fault names it.
    assert_eq!(
        run.go(),
        Outcome::Exception(Exception::PageFault(PageFault { address: GuestLinear(0xffff_ffff_feb0_0000), code: 0 }))
    );
    assert_eq!(run.state.rip, CODE);
}

#[test]
fn read_modify_write() {
    let flags_of = |run: &Run| run.state.rflags & flags::ARITHMETIC;
    // or dword [rbx], 0x80
    let done = run(&[0x81, 0x0b, 0x80, 0, 0, 0], 1, |_| ());
    assert_eq!(done.device.get(DEVICE, 4), 0x81);
    assert_eq!(done.device.accesses, [(false, DEVICE, 4), (true, DEVICE, 4)]);
    // and [rbx], ecx; xor ecx, [rbx]
    assert_eq!(run(&[0x21, 0x0b], 0xff, |state| state.registers[RCX] = 0xf0).device.get(DEVICE, 4), 0xf0);
    assert_eq!(run(&[0x33, 0x0b], 0xff, |state| state.registers[RCX] = 0xf0).state.registers[RCX], 0x0f);
    // add byte [rbx], 1: 0xff + 1
    let done = run(&[0x80, 0x03, 0x01], 0xff, |_| ());
    assert_eq!((done.device.get(DEVICE, 2), flags_of(&done)), (0, flags::CF | flags::ZF | flags::AF | flags::PF));
    // inc keeps CF; dec; not; neg
    let done = run(&[0xff, 0x03], 0xffff_ffff, |state| state.rflags |= flags::CF);
    assert_eq!((done.device.get(DEVICE, 4), flags_of(&done) & (flags::CF | flags::ZF)), (0, flags::CF | flags::ZF));
    assert_eq!(run(&[0xff, 0x0b], 5, |_| ()).device.get(DEVICE, 4), 4);
    assert_eq!(run(&[0xf7, 0x13], 5, |_| ()).device.get(DEVICE, 8), 0xffff_fffa);
    assert_eq!(run(&[0xf7, 0x1b], 1, |_| ()).device.get(DEVICE, 4), 0xffff_ffff);
    // cmp [rbx], ecx and test byte [rbx], 1 only set flags
    let done = run(&[0x39, 0x0b], 5, |state| state.registers[RCX] = 5);
    assert_eq!((done.device.accesses.len(), flags_of(&done)), (1, flags::ZF | flags::PF));
    let done = run(&[0xf6, 0x03, 0x01], 2, |_| ());
    assert_eq!((done.device.accesses.len(), flags_of(&done)), (1, flags::ZF | flags::PF));
    // shl dword [rbx], 4; imul eax, [rbx], 3
    assert_eq!(run(&[0xc1, 0x23, 0x04], 0x11, |_| ()).device.get(DEVICE, 4), 0x110);
    assert_eq!(run(&[0x6b, 0x03, 0x03], 7, |_| ()).state.registers[RAX], 21);
}

#[test]
fn exchanges() {
    // xchg [rbx], ecx
    let done = run(&[0x87, 0x0b], 7, |state| state.registers[RCX] = 9);
    assert_eq!((done.device.get(DEVICE, 4), done.state.registers[RCX]), (9, 7));
    // lock xadd [rbx], ecx
    let done = run(&[0xf0, 0x0f, 0xc1, 0x0b], 7, |state| state.registers[RCX] = 9);
    assert_eq!((done.device.get(DEVICE, 4), done.state.registers[RCX]), (16, 7));
    // cmpxchg [rbx], ecx: equal, then not
    let done = run(&[0x0f, 0xb1, 0x0b], 7, |state| {
        state.registers[RAX] = 7;
        state.registers[RCX] = 9;
    });
    assert_eq!((done.device.get(DEVICE, 4), done.state.rflags & flags::ZF), (9, flags::ZF));
    let done = run(&[0x0f, 0xb1, 0x0b], 8, |state| {
        state.registers[RAX] = 7;
        state.registers[RCX] = 9;
    });
    assert_eq!((done.device.get(DEVICE, 4), done.state.registers[RAX], done.state.rflags & flags::ZF), (8, 8, 0));
    // cmpxchg8b [rbx]
    let done = run(&[0x0f, 0xc7, 0x0b], 0x1_0000_0002, |state| {
        state.registers[RAX] = 2;
        state.registers[register::RDX] = 1;
        state.registers[RCX] = 5;
    });
    assert_eq!(done.device.get(DEVICE, 8), 5 << 32 | DEVICE);
}

#[test]
fn bits_and_conditions() {
    // bt dword [rbx], 3; bts dword [rbx], 0; lock btr [rbx], ecx with ecx = 35: in the next dword
    assert_eq!(run(&[0x0f, 0xba, 0x23, 0x03], 8, |_| ()).state.rflags & flags::CF, flags::CF);
    assert_eq!(run(&[0x0f, 0xba, 0x2b, 0x00], 8, |_| ()).device.get(DEVICE, 4), 9);
    let done = run(&[0xf0, 0x0f, 0xb3, 0x0b], 0xff_0000_0000, |state| state.registers[RCX] = 35);
    assert_eq!((done.device.get(DEVICE, 8), done.device.accesses[0].1), (0xf7_0000_0000, DEVICE + 4));
    // cmove eax, [rbx] without ZF reads and clears the upper half; setne [rbx]
    let done = run(&[0x0f, 0x44, 0x03], 5, |state| state.registers[RAX] = 0x9_0000_0003);
    assert_eq!((done.state.registers[RAX], done.device.accesses.len()), (3, 1));
    assert_eq!(run(&[0x0f, 0x95, 0x03], 0, |_| ()).device.get(DEVICE, 1), 1);
}

#[test]
fn stack_forms() {
    // push [rbx]
    let done = run(&[0xff, 0x33], 0x1234_5678_9abc, |_| ());
    assert_eq!((done.state.rsp, done.memory.u64(0x8ff8)), (0x8ff8, 0x1234_5678_9abc));
    assert_ne!(done.state.dirty & StateGroups::RSP.bits(), 0);
    // pop [rbx]: the top of the stack lies in the page tables' last page here
    let done = run(&[0x8f, 0x03], 0, |state| state.rsp = 0x2000);
    assert_eq!((done.state.rsp, done.device.get(DEVICE, 8)), (0x2008, 0));
}

#[test]
fn strings() {
    // rep movsd from the device to RAM
    let (mut state, memory) = state_64(&[0xf3, 0xa5]);
    state.registers[RSI] = DEVICE;
    state.registers[RDI] = 0x2ffc;
    state.registers[RCX] = 2;
    let mut run = Run { state, memory, device: Device::default() };
    run.device.set(DEVICE, 0x1111_2222_3333_4444);
    assert_eq!(run.go(), Outcome::Done);
    assert_eq!(run.memory.u64(0x2ffc), 0x1111_2222_3333_4444);
    assert_eq!((run.state.registers[RCX], run.state.registers[RSI]), (0, DEVICE + 8));
    // rep stosb of more than a batch, downwards
    let (mut state, memory) = state_64(&[0xf3, 0xaa]);
    state.registers[RDI] = DEVICE + 2000;
    state.registers[RCX] = 1500;
    state.registers[RAX] = 0x5a;
    state.rflags |= flags::DF;
    let mut run = Run { state, memory, device: Device::default() };
    assert_eq!(run.go(), Outcome::Again);
    assert_eq!((run.state.rip, run.state.registers[RCX]), (CODE, 476));
    assert_eq!(run.go(), Outcome::Done);
    assert_eq!((run.state.registers[RDI], run.device.accesses.len()), (DEVICE + 500, 1500));
    // repne scasb stops at the match; repe cmpsb at the difference
    let (mut state, memory) = state_64(&[0xf2, 0xae]);
    state.registers[RDI] = DEVICE;
    state.registers[RCX] = 10;
    state.registers[RAX] = 3;
    let mut run = Run { state, memory, device: Device::default() };
    run.device.set(DEVICE, 0x0504_0302_0100);
    assert_eq!(run.go(), Outcome::Done);
    assert_eq!((run.state.registers[RDI], run.state.registers[RCX]), (DEVICE + 4, 6));
    // a repeat count of zero does nothing
    let (state, memory) = state_64(&[0xf3, 0xa4]);
    let mut run = Run { state, memory, device: Device::default() };
    assert_eq!(run.go(), Outcome::Done);
    assert!(run.device.accesses.is_empty());
}

#[test]
fn protected_mode_segments() {
    // mov eax, gs:[ebx]
    let (mut state, memory) = state_32(&[0x65, 0x8b, 0x03]);
    state.segments[segment::GS].base = 0x1000;
    state.registers[RBX] = DEVICE - 0x1000;
    let mut run = Run { state, memory, device: Device::default() };
    run.device.set(DEVICE, 0x1234);
    assert_eq!(run.go(), Outcome::Done);
    assert_eq!(run.state.registers[RAX], 0x1234);
    // beyond the limit
    run.state.rip = CODE;
    run.state.segments[segment::GS].limit = 0xfff;
    assert_eq!(run.go(), Outcome::Exception(Exception::GeneralProtection));
    // mov [ebp], eax uses SS
    let (mut state, memory) = state_32(&[0x89, 0x45, 0x00]);
    state.registers[register::RBP] = 0xffff_fffe;
    let mut run = Run { state, memory, device: Device::default() };
    assert_eq!(run.go(), Outcome::Exception(Exception::StackFault));
}

#[test]
fn crossing_pages() {
    // mov rax, [rbx] from the last three bytes of a page
    let (mut state, memory) = state_64(&[0x48, 0x8b, 0x03]);
    state.registers[RBX] = DEVICE + 0xffd;
    let mut run = Run { state, memory, device: Device::default() };
    run.device.set(DEVICE + 0xffd, 0x1122_3344_5566_7788);
    assert_eq!(run.go(), Outcome::Done);
    assert_eq!(run.state.registers[RAX], 0x1122_3344_5566_7788);
    let sizes: Vec<_> = run.device.accesses.iter().map(|access| (access.1 - DEVICE, access.2)).collect();
    assert_eq!(sizes, [(0xffd, 1), (0xffe, 2), (0x1000, 4), (0x1004, 1)]);
}

#[test]
fn a_hint_gives_no_more_than_the_hardware_checked() {
    let (mut state, memory) = state_64(&[0x89, 0x03]);
    // The page is read-only in the guest's tables: PD 3, entry 0x1f5; WP is on.
    memory.write_u64(0x9000 + 8 * 0x1f5, 0xfea0_0081);
    state.cr0 |= 1 << 16;
    state.exit_reason = 48;
    state.exit_qualification = 0x181;
    state.guest_linear = DEVICE;
    state.guest_physical = DEVICE;
    let hint = Hint::from_exit(&state);
    assert_eq!(hint.map(|hint| hint.write), Some(false));
    let (mut device, mut cache) = (Device::default(), DecodeCache::new());
    let fault = PageFault { address: GuestLinear(DEVICE), code: 3 };
    assert_eq!(
        emulate(&mut state, &memory, &mut device, &mut cache, hint),
        Outcome::Exception(Exception::PageFault(fault))
    );
    Exception::PageFault(fault).inject(&mut state);
    assert_eq!((state.injection, state.injection_error_code), (0x8000_0b0e, 3));
    // With a hint for writing, the walk is not made.
    state.exit_qualification = 0x182;
    let hint = Hint::from_exit(&state);
    assert_eq!(emulate(&mut state, &memory, &mut device, &mut cache, hint), Outcome::Done);
    assert_eq!(device.accesses, [(true, DEVICE, 4)]);
}

#[test]
fn the_cache_notices_changed_code() {
    let (mut state, memory) = state_64(&[0x8b, 0x03]);
    let (mut device, mut cache) = (Device::default(), DecodeCache::new());
    device.set(DEVICE, 1);
    for _ in 0..2 {
        state.rip = CODE;
        assert_eq!(emulate(&mut state, &memory, &mut device, &mut cache, None), Outcome::Done);
    }
    memory.write(GuestPhysical(CODE), &[0x89, 0x03]).unwrap();
    state.rip = CODE;
    state.registers[RAX] = 5;
    assert_eq!(emulate(&mut state, &memory, &mut device, &mut cache, None), Outcome::Done);
    assert_eq!(device.get(DEVICE, 4), 5);
}

#[test]
fn what_is_not_emulated_says_so() {
    // movups xmm0, [rbx]; then an invalid opcode; then an instruction that runs out of RAM
    let (state, memory) = state_64(&[0x0f, 0x10, 0x03]);
    let mut run = Run { state, memory, device: Device::default() };
    assert!(matches!(run.go(), Outcome::Unsupported { bytes } if bytes.starts_with(&[0x0f, 0x10, 0x03])));
    run.memory.write(GuestPhysical(CODE), &[0x0f, 0x0b]).unwrap();
    assert!(matches!(run.go(), Outcome::Unsupported { .. }));
    run.memory.write(GuestPhysical(CODE), &[0x06]).unwrap();
    assert_eq!(run.go(), Outcome::Exception(Exception::InvalidOpcode));
    run.state.rip = (2 << 20) - 1;
    run.memory.write(GuestPhysical((2 << 20) - 1), &[0x8b]).unwrap();
    assert!(matches!(run.go(), Outcome::Unsupported { .. }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]
    #[test]
    fn no_instruction_panics(
        code in prop::collection::vec(any::<u8>(), 15),
        registers: [u64; 16],
        near in prop::collection::vec(any::<bool>(), 16),
        mode in 0u8..3,
        rflags: u64,
        cr0: u64,
        segment_fields: [u32; 6],
    ) {
        let (mut state, memory) = match mode {
            0 => state_64(&code),
            1 => state_32(&code),
            _ => {
                let (state, memory) = start(BootState::real_mode(0x7c00), &code);
                memory.write(GuestPhysical(0x7c00), &code).unwrap();
                (state, memory)
            }
        };
        for (index, near) in near.into_iter().enumerate() {
            state.registers[index] = if near { DEVICE + (registers[index] & 0xfff) } else { registers[index] };
        }
        state.rflags = rflags & !flags::VM;
        state.cr0 ^= cr0 & (1 << 16);
        for (segment, limit) in state.segments.iter_mut().zip(segment_fields) {
            if limit & 1 != 0 {
                segment.limit = limit;
                segment.base = u64::from(limit);
            }
        }
        let mut run = Run { state, memory, device: Device::default() };
        let _ = run.go();
    }
}
