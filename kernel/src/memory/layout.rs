//! Where things are in the kernel's half of every address space.

use crate::arch::cpu::{Cpu, MAX_CPUS};
use crate::arch::descriptors::stack;
use bulkhead_abi::PAGE_SIZE;

/// All RAM, at its physical address plus this; never executable.
pub const DIRECT_MAP: u64 = 0xffff_8000_0000_0000;
/// Per-processor areas: data and stacks, with unmapped pages between.
pub const CPU_AREAS: u64 = 0xffff_c000_0000_0000;
/// Register pages of the interrupt controllers.
pub const DEVICES: u64 = 0xffff_d000_0000_0000;
/// The kernel image's link addresses, above its physical ones by this.
pub const IMAGE_OFFSET: u64 = 0xffff_ffff_8000_0000;
/// A page below 1 MiB for the start-up code of the other processors.
pub const TRAMPOLINE: u64 = 0x8000;

/// Distance between two processors' areas.
const AREA: u64 = 1 << 20;
const CPU_OFFSET: u64 = PAGE_SIZE;
const STACK_OFFSET: u64 = 0x2_1000;
/// Bytes of a processor's main kernel stack.
pub const STACK_BYTES: u64 = 0x8000;
const EXCEPTION_STACKS_OFFSET: u64 = 0x4_1000;
const EXCEPTION_STACK_STRIDE: u64 = 0x4000;
/// Bytes of each exception stack.
pub const EXCEPTION_STACK_BYTES: u64 = 0x2000;

/// Bytes of a `Cpu`, in whole pages.
pub const CPU_BYTES: u64 = (size_of::<Cpu>() as u64).next_multiple_of(PAGE_SIZE);
const _: () = assert!(CPU_OFFSET + CPU_BYTES < STACK_OFFSET);

/// The area of a processor.
#[derive(Clone, Copy)]
pub struct Area(u64);

impl Area {
    /// The area of processor `number`.
    pub const fn of(number: u32) -> Self {
        Self(CPU_AREAS + number as u64 * AREA)
    }
    /// Address of its `Cpu`.
    pub const fn cpu(self) -> u64 {
        self.0 + CPU_OFFSET
    }
    /// Lowest address of its main stack.
    pub const fn stack(self) -> u64 {
        self.0 + STACK_OFFSET
    }
    /// Where its main stack begins to grow down.
    pub const fn stack_top(self) -> u64 {
        self.stack() + STACK_BYTES
    }
    /// Lowest address of an exception stack.
    pub const fn exception_stack(self, index: usize) -> u64 {
        self.0 + EXCEPTION_STACKS_OFFSET + index as u64 * EXCEPTION_STACK_STRIDE
    }
}

/// Whether an address lies on a stack of the kernel.
pub fn is_stack(address: u64) -> bool {
    if address < CPU_AREAS || address >= CPU_AREAS + MAX_CPUS as u64 * AREA {
        return false;
    }
    let area = Area(address & !(AREA - 1));
    let within = |start: u64, bytes: u64| address >= start && address < start + bytes;
    within(area.stack(), STACK_BYTES)
        || (0..stack::COUNT).any(|index| within(area.exception_stack(index), EXCEPTION_STACK_BYTES))
}
