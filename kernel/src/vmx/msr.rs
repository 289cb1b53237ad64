//! Model-specific registers of guests: which they touch directly, and which the hardware exchanges.
//!
//! IA32_PAT, the segment bases, the SYSENTER registers and, with extended page tables, IA32_EFER are fields of the VMCS. The
//! SYSCALL registers, IA32_KERNEL_GS_BASE and, with shadow paging, IA32_EFER go through the MSR areas of VM entry and exit (SDM
//! vol. 3, 25.7.2 and 25.8.2), so that the kernel never executes WRMSR with a guest's value: the hardware refuses the entry if
//! one is malformed. Guests write IA32_KERNEL_GS_BASE and IA32_TSC_AUX at will, hence exits store these two; they are the tail
//! of the list.

use crate::arch::msr;
use crate::vmx::page::Page;
use crate::vmx::vmcs::Vmcs;
use bulkhead_abi::Error;
use bulkhead_core::phys::HostPhysical;
use core::cell::Cell;
use core::mem::offset_of;
use x86::msr::{
    IA32_EFER, IA32_FMASK, IA32_FS_BASE, IA32_GS_BASE, IA32_KERNEL_GSBASE, IA32_LSTAR, IA32_PAT, IA32_STAR,
    IA32_SYSENTER_CS, IA32_SYSENTER_EIP, IA32_SYSENTER_ESP, IA32_TIME_STAMP_COUNTER, IA32_TSC_AUX,
};
use x86::vmx::vmcs::control;

/// Index of IA32_EFER in an area; used only with shadow paging.
pub const EFER: usize = 0;
/// Index of IA32_STAR in an area.
pub const STAR: usize = 1;
/// Index of IA32_LSTAR in an area.
pub const LSTAR: usize = 2;
/// Index of IA32_FMASK in an area.
pub const FMASK: usize = 3;
/// Index of IA32_KERNEL_GS_BASE in an area; from here on exits store the guest's values.
pub const KERNEL_GS_BASE: usize = 4;
/// Index of IA32_TSC_AUX in an area; used only if the guest was given it.
const TSC_AUX: usize = 5;
const REGISTERS: [u32; 6] = [IA32_EFER, IA32_STAR, IA32_LSTAR, IA32_FMASK, IA32_KERNEL_GSBASE, IA32_TSC_AUX];

/// An entry of an MSR area (SDM vol. 3, table 25-15).
#[repr(C, align(16))]
struct Entry {
    index: Cell<u32>,
    reserved: Cell<u32>,
    value: Cell<u64>,
}

/// The MSR areas of one vCPU.
#[repr(C)]
pub struct MsrAreas {
    guest: [Entry; REGISTERS.len()],
    host: [Entry; REGISTERS.len()],
    /// The guest has IA32_TSC_AUX.
    pub with_tsc_aux: Cell<bool>,
}

impl MsrAreas {
    /// Writes the register numbers. Guest values stay: 0 at first.
    pub fn initialise(&self) {
        for entries in [&self.guest, &self.host] {
            for (entry, register) in entries.iter().zip(REGISTERS) {
                entry.index.set(register);
            }
        }
    }

    /// The guest's value of register [`EFER`], [`STAR`], [`LSTAR`], [`FMASK`] or [`KERNEL_GS_BASE`].
    pub fn guest_value(&self, register: usize) -> u64 {
        self.guest.get(register).map_or(0, |entry| entry.value.get())
    }

    /// Sets the guest's value of one of these registers. The hardware checks it at the next entry.
    pub fn set_guest_value(&self, register: usize, value: u64) {
        if let Some(entry) = self.guest.get(register) {
            entry.value.set(value);
        }
    }

    /// Takes the host's values and tells the VMCS where the areas are, `address` being this structure's.
    pub fn load(&self, vmcs: Vmcs, address: HostPhysical, with_efer: bool) {
        let end = if self.with_tsc_aux.get() { REGISTERS.len() } else { TSC_AUX };
        let first = if with_efer { EFER } else { STAR };
        for (entry, register) in self.host.iter().zip(REGISTERS).take(end) {
            // SAFETY: every 64-bit processor has these but for the last; guests are given IA32_TSC_AUX only where it exists.
            entry.value.set(unsafe { msr::read(register) });
        }
        let place = |area: usize, register: usize| address.0 + (area + register * size_of::<Entry>()) as u64;
        let (guest, host) = (offset_of!(Self, guest), offset_of!(Self, host));
        // SAFETY: the areas lie in the vCPU, which outlives its VMCS; counts do not exceed them; the host's values are those
        // that the processor itself held.
        unsafe {
            vmcs.write(control::VMENTRY_MSR_LOAD_ADDR_FULL, place(guest, first));
            vmcs.write(control::VMENTRY_MSR_LOAD_COUNT, (end - first) as u64);
            vmcs.write(control::VMEXIT_MSR_STORE_ADDR_FULL, place(guest, KERNEL_GS_BASE));
            vmcs.write(control::VMEXIT_MSR_STORE_COUNT, (end - KERNEL_GS_BASE) as u64);
            vmcs.write(control::VMEXIT_MSR_LOAD_ADDR_FULL, place(host, first));
            vmcs.write(control::VMEXIT_MSR_LOAD_COUNT, (end - first) as u64);
        }
    }

    /// Opens register `register` to the guest in the bitmap. `started`: the areas have been loaded and keep their length.
    pub fn pass(&self, bitmap: &Page, register: u32, read: bool, write: bool, started: bool) -> Result<(), Error> {
        match register {
            IA32_FS_BASE | IA32_GS_BASE | IA32_KERNEL_GSBASE | IA32_PAT => {}
            IA32_SYSENTER_CS | IA32_SYSENTER_ESP | IA32_SYSENTER_EIP => {}
            // Read at will; a write would have to be read back at every exit, and happens once.
            IA32_STAR | IA32_LSTAR | IA32_FMASK | IA32_EFER | IA32_TIME_STAMP_COUNTER if !write => {}
            IA32_TSC_AUX if started && !self.with_tsc_aux.get() => return Err(Error::WrongState),
            IA32_TSC_AUX if crate::vmx::capabilities::has_tsc_aux() => self.with_tsc_aux.set(true),
            IA32_TSC_AUX => return Err(Error::Unsupported),
            _ => return Err(Error::BadArgument),
        }
        open(bitmap, register, read, write);
        Ok(())
    }

    /// Opens the registers of an x2APIC to the guest, or closes them: for reading all that are state and no more, for writing
    /// those that the processor virtualizes without an exit (SDM vol. 3, 30.5).
    pub fn pass_x2apic(&self, bitmap: &Page, pass: bool) {
        const READABLE: [core::ops::RangeInclusive<u32>; 7] =
            [0x802..=0x803, 0x808..=0x808, 0x80a..=0x80a, 0x80d..=0x80d, 0x80f..=0x828, 0x830..=0x830, 0x832..=0x838];
        const WRITABLE: [u32; 3] = [0x808, 0x80b, 0x83f];
        for register in READABLE.into_iter().flatten().chain([0x83e]) {
            open(bitmap, register, pass, pass && WRITABLE.contains(&register));
        }
        for register in [0x80b, 0x83f] {
            open(bitmap, register, false, pass);
        }
    }
}

/// Lets the guest read and write a register directly, or not. Four bitmaps of 1 KiB: reads of low and high registers, then
/// writes (SDM vol. 3, 25.6.9).
fn open(bitmap: &Page, register: u32, read: bool, write: bool) {
    let base = if register >= 0xc000_0000 { 1024 } else { 0 };
    let (byte, bit) = ((register & 0x1fff) as usize / 8, 1 << (register % 8));
    let bytes = bitmap.pointer().cast::<u8>();
    for (offset, pass) in [(0, read), (2048, write)] {
        // SAFETY: the offset is below 4096; the hardware only reads the bitmap.
        unsafe {
            let place = bytes.add(offset + base + byte);
            let value = place.read_volatile();
            place.write_volatile(if pass { value & !bit } else { value | bit });
        }
    }
}
