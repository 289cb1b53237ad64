//! Bringing processors up: the first one, and the others by INIT and start-up interrupts (SDM vol. 3, 9.4).

use crate::arch::cpu::Cpu;
use crate::arch::descriptors::stack;
use crate::arch::{apic, msr, traps};
use crate::boot_line;
use crate::memory::boot_pages::BootPages;
use crate::memory::layout::{Area, CPU_BYTES, DIRECT_MAP, EXCEPTION_STACK_BYTES, STACK_BYTES, TRAMPOLINE};
use crate::memory::{self, KernelTables};
use crate::{time, vmx};
use bulkhead_abi::Rights;
use bulkhead_core::phys::HostPhysical;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

unsafe extern "C" {
    static trampoline_start: [u8; 0];
    static trampoline_end: [u8; 0];
}

/// Number, VMXON page and end of the stack of the processor that is starting.
static STARTING: AtomicU32 = AtomicU32::new(0);
static STARTING_VMX_PAGE: AtomicU64 = AtomicU64::new(0);
#[unsafe(no_mangle)]
static STARTING_STACK: AtomicU64 = AtomicU64::new(0);
/// Set by the starting processor when it is ready.
static STARTED: AtomicU32 = AtomicU32::new(0);

/// Maps a processor's data and stacks. Returns nothing if boot memory ran out.
pub fn map_area(tables: &KernelTables<'_>, pages: &mut BootPages, number: u32) -> Option<()> {
    let area = Area::of(number);
    let mut place = |address: u64, bytes: u64| {
        let physical = pages.take_bytes(bytes)?;
        tables.map(address, physical, bytes, Rights::READ | Rights::WRITE, false).ok()
    };
    place(area.cpu(), CPU_BYTES)?;
    place(area.stack(), STACK_BYTES)?;
    for index in 0..stack::COUNT {
        place(area.exception_stack(index), EXCEPTION_STACK_BYTES)?;
    }
    Some(())
}

/// Gives the executing processor its data, tables and features.
///
/// # Safety
/// Once per processor, after its area was mapped and the kernel's address space was loaded.
unsafe fn set_up(number: u32, vmx_page: u64) -> &'static Cpu {
    let area = Area::of(number);
    // SAFETY: the area is mapped, zeroed and this processor's alone.
    let cpu = unsafe { Cpu::initialise(area.cpu() as *mut Cpu, number, area.stack_top()) };
    // SAFETY: first use of fresh structures, which live for ever.
    unsafe {
        cpu.task.initialise(area);
        cpu.descriptors.load(&cpu.task);
        msr::write(x86::msr::IA32_GS_BASE, area.cpu());
        msr::write(x86::msr::IA32_KERNEL_GSBASE, 0);
    }
    traps::load();
    protect();
    apic::enable();
    cpu.apic_id.set(apic::identifier());
    cpu.address_space.set(memory::kernel_space());
    // SAFETY: the page is set aside for this.
    match unsafe { vmx::enable(HostPhysical(vmx_page)) } {
        Ok(()) => cpu.vmx.prepare(),
        Err(vmx::EnableError::Absent) => {}
        Err(error) => boot_line!("processor {number}: VMX stays off: {error:?}"),
    }
    cpu.announce();
    cpu
}

/// Turns on what keeps the kernel from running or reading a partition's memory by mistake (SDM vol. 3, 4.6).
fn protect() {
    use x86::controlregs::{Cr4, cr4, cr4_write};
    let leaf = core::arch::x86_64::__cpuid_count(7, 0);
    // SAFETY: reads a register.
    let mut value = unsafe { cr4() };
    value.set(Cr4::CR4_ENABLE_SMEP, leaf.ebx & 1 << 7 != 0);
    value.set(Cr4::CR4_ENABLE_SMAP, leaf.ebx & 1 << 20 != 0);
    value.set(Cr4::CR4_ENABLE_UMIP, leaf.ecx & 1 << 2 != 0);
    // SAFETY: the kernel never executes or reads user pages by their own addresses.
    unsafe { cr4_write(value) }
}

/// Sets up the first processor.
///
/// # Safety
/// As for `set_up`.
pub unsafe fn set_up_first(vmx_page: u64) -> &'static Cpu {
    traps::initialise();
    // SAFETY: as the caller promises.
    unsafe { set_up(0, vmx_page) }
}

/// Starts the other processors one after another; each that answers is ready when this returns.
pub fn start_others(identifiers: &[u32], own: u32, pages: &mut BootPages) {
    let length = (&raw const trampoline_end) as usize - (&raw const trampoline_start) as usize;
    let target = (DIRECT_MAP + TRAMPOLINE) as *mut u8;
    // SAFETY: the page below 1 MiB is free RAM that the kernel set aside.
    unsafe { core::ptr::copy_nonoverlapping((&raw const trampoline_start).cast::<u8>(), target, length) };
    let mut number = 1;
    // There is an area for each of the identifiers.
    let others = identifiers.iter().filter(|identifier| **identifier != own).take(identifiers.len().saturating_sub(1));
    for identifier in others {
        let Some(page) = pages.take(1) else { break };
        STARTING.store(number, Ordering::Relaxed);
        STARTING_VMX_PAGE.store(page, Ordering::Relaxed);
        STARTING_STACK.store(Area::of(number).stack_top(), Ordering::Relaxed);
        core::sync::atomic::fence(Ordering::SeqCst);
        apic::send_init(*identifier);
        wait_for(10_000, || false);
        let answers = || STARTED.load(Ordering::Acquire) == number;
        let has_started = (0..2).any(|_| {
            apic::send_startup(*identifier, (TRAMPOLINE >> 12) as u8);
            wait_for(20_000, answers)
        });
        if has_started {
            number += 1;
        } else {
            boot_line!("processor with APIC identifier {identifier} does not answer; it stays parked");
        }
    }
}

/// Waits until `condition` holds or the time is over; whether it holds.
fn wait_for(microseconds: u64, condition: impl Fn() -> bool) -> bool {
    let end = msr::tsc() + time::frequency() / 1_000_000 * microseconds;
    while msr::tsc() < end {
        if condition() {
            return true;
        }
        core::hint::spin_loop();
    }
    condition()
}

/// Where the boot code takes a processor other than the first, on its own stack.
#[unsafe(no_mangle)]
extern "C" fn processor_start() -> ! {
    let number = STARTING.load(Ordering::Relaxed);
    // SAFETY: the first processor mapped the area and waits.
    unsafe { set_up(number, STARTING_VMX_PAGE.load(Ordering::Relaxed)) };
    STARTED.store(number, Ordering::Release);
    // SAFETY: the stack is this processor's own; nothing on it is needed any more.
    unsafe { traps::start_scheduling(Area::of(number).stack_top()) }
}
