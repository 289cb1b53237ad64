//! Switching a processor into VMX operation.

use crate::arch::msr;
use crate::vmx::capabilities::{Capabilities, FEATURE_CONTROL_LOCK, FEATURE_CONTROL_VMX};
use bulkhead_core::phys::{HostPhysical, window_base};
use core::arch::asm;
use x86::controlregs::{Cr0, Cr4, cr0, cr0_write, cr4, cr4_write};
use x86::msr::IA32_FEATURE_CONTROL;

/// Why a processor did not enter VMX operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EnableError {
    /// The processor has no VMX.
    Absent,
    /// The firmware switched VMX off and locked the setting.
    LockedOff,
    /// VMXON was refused.
    Refused,
}

/// Makes the processor that executes this enter VMX operation (SDM vol. 3, 24.7), with the floating-point unit out of reach
/// of native programs, even if there is no VMX: they would find each other's values in it, or a guest's.
///
/// # Safety
/// Once per processor, in ring 0. `region` is a page of its own that is never used otherwise.
pub unsafe fn enable(region: HostPhysical) -> Result<(), EnableError> {
    // SAFETY: only floating-point bits change, and the kernel has no such code.
    unsafe {
        let wanted = Cr0::CR0_NUMERIC_ERROR | Cr0::CR0_TASK_SWITCHED | Cr0::CR0_MONITOR_COPROCESSOR;
        cr0_write((cr0() | wanted) & !Cr0::CR0_EMULATE_COPROCESSOR);
    }
    let capabilities = Capabilities::read().ok_or(EnableError::Absent)?;
    // SAFETY: the register exists where VMX does; it is written only while it is not locked.
    unsafe {
        let control = msr::read(IA32_FEATURE_CONTROL);
        if control & FEATURE_CONTROL_LOCK == 0 {
            msr::write(IA32_FEATURE_CONTROL, control | FEATURE_CONTROL_LOCK | FEATURE_CONTROL_VMX);
        } else if control & FEATURE_CONTROL_VMX == 0 {
            return Err(EnableError::LockedOff);
        }
    }
    // SAFETY: the fixed bits are what VMX needs; a kernel in 64-bit mode has paging and protection on already, so that only
    // VMXE and OSFXSR change. OSXSAVE is set only while extended state is switched.
    unsafe {
        let value = (cr0().bits() as u64 | capabilities.cr0.0) & capabilities.cr0.1;
        cr0_write(Cr0::from_bits_truncate(value as usize));
        let value = (cr4() | Cr4::CR4_ENABLE_VMX | Cr4::CR4_ENABLE_SSE).bits() as u64;
        let value = (value | capabilities.cr4.0) & capabilities.cr4.1;
        cr4_write(Cr4::from_bits_truncate(value as usize));
    }
    let pointer = region.0.wrapping_add(window_base()) as *mut u32;
    let refused: u8;
    // SAFETY: the page is the caller's to give; VMXON takes its physical address from memory and touches nothing else.
    unsafe {
        pointer.write_volatile(capabilities.revision);
        asm!("vmxon [{}]", "setbe {}", in(reg) &region.0, out(reg_byte) refused, options(nostack));
    }
    if refused == 0 { Ok(()) } else { Err(EnableError::Refused) }
}
