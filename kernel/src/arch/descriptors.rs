//! Segment descriptors and the task state: which stack an exception uses, which ports a partition may touch.

use crate::memory::layout::{Area, EXCEPTION_STACK_BYTES};
use core::cell::{Cell, UnsafeCell};
use x86::bits64::task::TaskStateSegment;

/// Kernel code.
pub const KERNEL_CODE: u16 = 0x08;
/// Kernel data.
pub const KERNEL_DATA: u16 = 0x10;
/// User data; SYSRET wants it right below user code (SDM vol. 2, SYSRET).
pub const USER_DATA: u16 = 0x1b;
/// User code.
pub const USER_CODE: u16 = 0x23;
/// Task state.
pub const TASK: u16 = 0x28;

/// Interrupt-stack-table indices (1 to 7) by use: the compiler's own library keeps data below the stack pointer, so no
/// exception may push onto the stack it interrupts.
pub mod stack {
    /// Double fault.
    pub const DOUBLE_FAULT: u8 = 1;
    /// Non-maskable interrupt.
    pub const NMI: u8 = 2;
    /// Machine check.
    pub const MACHINE_CHECK: u8 = 3;
    /// Debug.
    pub const DEBUG: u8 = 4;
    /// All other exceptions.
    pub const FAULT: u8 = 5;
    /// How many there are.
    pub const COUNT: usize = 5;
}

/// The global descriptor table of one processor.
#[repr(C, align(16))]
pub struct GlobalDescriptors([Cell<u64>; 8]);

/// Bytes of the I/O permission bitmap, with the closing byte of ones (SDM vol. 1, 19.5.2).
const BITMAP_BYTES: usize = 8192 + 8;
/// The bitmap's offset in the task state.
const BITMAP_OFFSET: u16 = size_of::<TaskStateSegment>() as u16;
/// An offset beyond the segment: no port is allowed.
const NO_BITMAP: u16 = 0xffff;

/// The task state of one processor (SDM vol. 3, 8.7).
#[repr(C, align(16))]
pub struct TaskState {
    segment: UnsafeCell<TaskStateSegment>,
    bitmap: UnsafeCell<[u8; BITMAP_BYTES]>,
}

impl TaskState {
    /// Sets the stacks; denies every port.
    ///
    /// # Safety
    /// Called once, by the processor's own start-up, before the table is loaded.
    #[expect(clippy::indexing_slicing, reason = "there are fewer stacks than the array has elements")]
    pub unsafe fn initialise(&self, area: Area) {
        let mut segment = TaskStateSegment::new();
        segment.rsp[0] = area.stack_top();
        for index in 0..stack::COUNT {
            segment.ist[index] = area.exception_stack(index) + EXCEPTION_STACK_BYTES;
        }
        segment.iomap_base = NO_BITMAP;
        // SAFETY: the caller has the structure to itself.
        unsafe {
            self.segment.get().write(segment);
            self.bitmap.get().write([0xff; BITMAP_BYTES]);
        }
    }

    /// Makes the bitmap count, or denies every port.
    pub fn enable_ports(&self, enable: bool) {
        // SAFETY: only this processor writes its task state, and the kernel lock or interrupts-off exclude others.
        unsafe { (*self.segment.get()).iomap_base = if enable { BITMAP_OFFSET } else { NO_BITMAP } }
    }

    /// Allows or denies a range of ports in the bitmap.
    pub fn set_ports(&self, first: u16, count: u32, allow: bool) {
        let bitmap = self.bitmap.get().cast::<u8>();
        for port in u32::from(first)..(u32::from(first) + count).min(65536) {
            // SAFETY: port / 8 is below 8192; see `enable_ports` for exclusion.
            unsafe {
                let byte = bitmap.add(port as usize / 8);
                if allow { *byte &= !(1 << (port % 8)) } else { *byte |= 1 << (port % 8) }
            }
        }
    }
}

impl GlobalDescriptors {
    /// Fills and loads the table and the task register.
    ///
    /// # Safety
    /// Once per processor; `task` must live as long as the processor runs.
    pub unsafe fn load(&self, task: &TaskState) {
        let (base, limit) = (core::ptr::from_ref(task) as u64, size_of::<TaskState>() as u64 - 1);
        let entries = [
            0,
            0x00af_9b00_0000_ffff,
            0x00cf_9300_0000_ffff,
            0x00cf_f300_0000_ffff,
            0x00af_fb00_0000_ffff,
            (limit & 0xffff)
                | (base & 0xff_ffff) << 16
                | 0x89 << 40
                | (limit >> 16 & 0xf) << 48
                | (base >> 24 & 0xff) << 56,
            base >> 32,
            0,
        ];
        for (cell, entry) in self.0.iter().zip(entries) {
            cell.set(entry);
        }
        let pointer = x86::dtables::DescriptorTablePointer { limit: 63, base: self.0.as_ptr().cast::<u64>() };
        // SAFETY: the table is complete; the segments are flat, so reloading them changes no address.
        unsafe {
            x86::dtables::lgdt(&pointer);
            core::arch::asm!(
                "push {code}", "lea {address}, [rip + 2f]", "push {address}", "retfq", "2:",
                "mov ss, {data:x}", "mov ds, {data:x}", "mov es, {data:x}",
                code = const KERNEL_CODE as u64, data = in(reg) u64::from(KERNEL_DATA), address = out(reg) _,
            );
            x86::task::load_tr(x86::segmentation::SegmentSelector::from_raw(TASK));
        }
    }

    /// Loads the task register again, for its full limit.
    pub fn reload_task(&self) {
        let [.., task, _, _] = &self.0;
        task.set(task.get() & !(1 << 41));
        // SAFETY: the descriptor is that of the task state in use; LTR wants it marked available (SDM vol. 2, LTR).
        unsafe { core::arch::asm!("ltr {:x}", in(reg) TASK, options(nostack, preserves_flags)) };
    }
}
