//! Extended state: x87, SSE, AVX and AVX-512 registers of guests.
//!
//! Kernel and native programs have none (CR0.TS is always set for them), so a guest's registers stay where they are until
//! another vCPU comes to the processor. State is saved and restored with all switched components enabled, whatever the guest
//! has in XCR0: a component that a guest has disabled would otherwise be found there by the next one.

use crate::vmx::cpu::VmxCpu;
use crate::vmx::host::CR4_OSXSAVE;
use crate::vmx::vcpu::Vcpu;
use core::arch::asm;

/// Bytes that a vCPU has for its extended state.
pub const AREA_BYTES: usize = 3 * 4096;
/// CR0.TS.
const CR0_TS: u64 = 1 << 3;
/// XCR0: x87, which must be enabled.
pub const X87: u64 = 1 << 0;
const SSE: u64 = 1 << 1;
const AVX: u64 = 1 << 2;
const AVX512: u64 = 0b111 << 5;
/// Offset and initial value of the x87 control word.
const FCW: (usize, u16) = (0, 0x037f);
/// Offset and initial value of MXCSR.
const MXCSR: (usize, u32) = (24, 0x1f80);

/// A value that XCR0 accepts on a processor with these components (SDM vol. 1, 13.3).
const fn is_valid_xcr0(value: u64, components: u64) -> bool {
    let avx_needs_sse = value & AVX == 0 || value & SSE != 0;
    let avx512 = value & AVX512;
    let avx512_is_whole = avx512 == 0 || avx512 == AVX512 && value & AVX != 0;
    value & X87 != 0 && value & !components == 0 && avx_needs_sse && avx512_is_whole
}

/// Writes the state after reset into a zeroed area.
pub fn initialise(area: *mut u8) {
    // SAFETY: the caller's area is page-aligned and as long as `AREA_BYTES`.
    unsafe {
        area.add(FCW.0).cast::<u16>().write(FCW.1);
        area.add(MXCSR.0).cast::<u32>().write(MXCSR.1);
    }
}

/// Gives the floating-point unit to `next`, saving the state of `previous`.
pub fn switch(cpu: &VmxCpu, previous: Option<&Vcpu>, next: Option<&Vcpu>) {
    let components = cpu.components.get();
    // SAFETY: areas are whole, aligned and written by these instructions only, so that restoring accepts them; the
    // components are supported; XCR0 values were checked when they were loaded. The code of the kernel uses no such register.
    unsafe {
        asm!("clts", options(nostack, nomem, preserves_flags));
        if components != 0 {
            write_cr4(cpu.host.cr4.get() | CR4_OSXSAVE);
            write_xcr0(components);
            let (low, high) = (components as u32, (components >> 32) as u32);
            if let Some(vcpu) = previous {
                asm!("xsave64 [{}]", in(reg) vcpu.extended_area(), in("eax") low, in("edx") high, options(nostack));
            }
            if let Some(vcpu) = next {
                asm!("xrstor64 [{}]", in(reg) vcpu.extended_area(), in("eax") low, in("edx") high, options(nostack));
                write_xcr0(vcpu.xcr0.get());
            }
            write_cr4(cpu.host.cr4.get());
        } else {
            if let Some(vcpu) = previous {
                asm!("fxsave64 [{}]", in(reg) vcpu.extended_area(), options(nostack));
            }
            if let Some(vcpu) = next {
                asm!("fxrstor64 [{}]", in(reg) vcpu.extended_area(), options(nostack));
            }
        }
        asm!("mov {value}, cr0", "or {value}, {ts}", "mov cr0, {value}", value = out(reg) _, ts = const CR0_TS, options(nostack));
    }
}

/// Sets XCR0 of the guest whose state the registers hold. False if the processor would not accept it.
pub fn set_xcr0(cpu: &VmxCpu, vcpu: &Vcpu, value: u64) -> bool {
    let components = cpu.components.get();
    if !is_valid_xcr0(value, components) {
        // Without XSAVE there is no XCR0; its value after reset stands for that.
        return components == 0 && value == X87;
    }
    if value != vcpu.xcr0.replace(value) {
        // SAFETY: the value is valid; CR4 is the host's but for OSXSAVE, which XSETBV needs.
        unsafe {
            write_cr4(cpu.host.cr4.get() | CR4_OSXSAVE);
            write_xcr0(value);
            write_cr4(cpu.host.cr4.get());
        }
    }
    true
}

/// # Safety
/// CR4.OSXSAVE must be on, and the processor accept the value.
unsafe fn write_xcr0(value: u64) {
    // SAFETY: as the caller promises.
    unsafe {
        asm!("xsetbv", in("ecx") 0, in("eax") value as u32, in("edx") (value >> 32) as u32,
             options(nostack, nomem, preserves_flags));
    }
}

/// # Safety
/// The value must be the host's CR4, with OSXSAVE or without.
unsafe fn write_cr4(value: u64) {
    // SAFETY: as the caller promises.
    unsafe { asm!("mov cr4, {}", in(reg) value, options(nostack, preserves_flags)) };
}
