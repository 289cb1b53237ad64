//! From the boot loader to the first thread of init.

mod firmware;
mod information;
pub mod init;
mod processors;

use crate::arch::{apic, clock, ioapic, traps};
use crate::memory::boot_pages::{BootPages, Range, Ranges, free_ranges};
use crate::memory::layout::{DEVICES, DIRECT_MAP, TRAMPOLINE};
use crate::memory::{self, KernelTables};
use crate::{boot_line, object, time, vmx};
use bulkhead_abi::{CpuFeatures, PAGE_SIZE, Rights};
use bulkhead_core::engine::Engine;
use bulkhead_core::frames::{FrameRange, FrameTable, Group};
use bulkhead_core::page_table::Pool;
use bulkhead_core::phys::{Array, HostPhysical, set_window_base};
use core::arch::global_asm;
use core::cell::Cell;
use information::Information;

global_asm!(include_str!("start.s"));

/// Pages that the kernel keeps for its tables, besides what each processor and each GiB of RAM needs.
const KERNEL_PAGES: u64 = 1024;
/// Pages that a processor needs.
const PAGES_PER_CPU: u64 = 40;
/// RAM below this is left to firmware and start-up code.
const LOWEST: u64 = 1 << 20;
const _: () = assert!(TRAMPOLINE < LOWEST);

/// Stops before there is anything else that could show an error.
fn refuse(reason: &str) -> ! {
    boot_line!("refused: {reason}");
    boot_line!("end: failed: {reason}");
    crate::panic::halt()
}

/// Where the boot code enters Rust, on the first processor, with the boot tables: the first 4 GiB at 0 and in the direct map.
#[unsafe(no_mangle)]
extern "C" fn kernel_start(information: u32, entry_tsc: u64) -> ! {
    set_window_base(DIRECT_MAP);
    // SAFETY: the assembly checked the magic and passed the address on.
    let boot = unsafe { information::read(u64::from(information)) }.unwrap_or_else(|reason| refuse(reason));
    let Some(root) = boot.acpi else { refuse("the boot loader found no ACPI tables") };
    let machine = firmware::read(root).unwrap_or_else(|reason| refuse(reason));
    let cpus = (machine.processors.len() as u64).max(1);
    let (mut pages, free) = claim(&boot, cpus);
    let vmx_page = build(&boot, &machine, &mut pages, &free, cpus);
    let Some(vmx_page) = vmx_page else { refuse("too little memory for the kernel's own tables") };

    clock::silence_pics();
    time::set_frequency(clock::measure_tsc());
    if time::frequency() == 0 {
        refuse("the PIT does not count: no time base");
    }
    // SAFETY: the area is mapped and the kernel's space loaded, by `build`.
    let cpu = unsafe { processors::set_up_first(vmx_page) };
    apic::calibrate();
    processors::start_others(&machine.processors, cpu.apic_id.get(), &mut pages);
    let features = vmx::detect();
    let (count, megahertz) = (crate::arch::cpu::count(), time::frequency() / 1_000_000);
    boot_line!("{count} processors, TSC {megahertz} MHz, features {features:?}");
    if !features.contains(CpuFeatures::VMX) {
        boot_line!("no VMX on this machine: native partitions run, guests do not");
    }
    let lock = crate::lock::kernel_lock();
    if let Err(reason) = init::construct(&boot, &machine, &free, &mut pages, entry_tsc, features) {
        refuse(reason);
    }
    drop(lock);
    // SAFETY: the stack is this processor's own; nothing on the boot stack is needed any more.
    unsafe { traps::start_scheduling(cpu.stack_top.get()) }
}

/// Sets the kernel's own memory aside: the end of the largest free range below 4 GiB.
fn claim(boot: &Information, cpus: u64) -> (BootPages, Ranges) {
    let mut used = boot.used.clone();
    // Full lists were refused or are safe; see `information`.
    let _ = used.push(memory::image_range());
    let free = free_ranges(&boot.areas, &used, LOWEST);
    let ram_pages = boot.areas.iter().map(|area| area.end).max().unwrap_or(0) / PAGE_SIZE;
    let bytes = (KERNEL_PAGES + cpus * PAGES_PER_CPU) * PAGE_SIZE + ram_pages * 4 + ram_pages / 64 + ram_pages / 4;
    let bytes = bytes.next_multiple_of(2 << 20);
    let largest = free.iter().filter(|range| range.end <= 1 << 32).max_by_key(|range| range.length());
    let Some(largest) = largest.filter(|range| range.length() > bytes).copied() else {
        refuse("too little memory below 4 GiB")
    };
    let own = Range { start: (largest.end - bytes) & !(PAGE_SIZE - 1), end: largest.end };
    let _ = used.push(own);
    // SAFETY: the range is free RAM by the loader's map, and marked as used from here on.
    (unsafe { BootPages::new(own) }, free_ranges(&boot.areas, &used, LOWEST))
}

/// Builds frame table and address space, maps the processors' areas and the interrupt controllers, and switches to it all.
/// Returns a page for the first processor's VMXON; nothing if memory ran out.
fn build(
    boot: &Information,
    machine: &firmware::Machine,
    pages: &mut BootPages,
    free: &Ranges,
    cpus: u64,
) -> Option<u64> {
    install_engine(boot, pages, free)?;
    let pool = Pool::default();
    let ram = boot.areas.iter().map(|area| area.end).max()?;
    for _ in 0..160 + cpus * 4 + ram / (1 << 30) * 2 {
        pool.give(HostPhysical(pages.take(1)?));
    }
    let tables = KernelTables::new(&pool)?;
    tables.map_image().ok()?;
    let rights = Rights::READ | Rights::WRITE;
    for area in &boot.areas {
        let whole = Range { start: area.start & !(PAGE_SIZE - 1), end: area.end.next_multiple_of(PAGE_SIZE) };
        // The image has been mapped with narrower rights.
        for range in free_ranges(&[whole], &[memory::image_range()], 0) {
            tables.map(DIRECT_MAP + range.start, range.start, range.length(), rights, false).ok()?;
        }
    }
    for number in 0..cpus {
        processors::map_area(&tables, pages, number as u32)?;
    }
    let device = |index: usize| DEVICES + index as u64 * PAGE_SIZE;
    let controllers = machine.controllers.iter().map(|(physical, _)| *physical);
    for (index, physical) in core::iter::once(apic::page_address()).chain(controllers).enumerate() {
        let page = physical & !(PAGE_SIZE - 1);
        tables.map(device(index), page, PAGE_SIZE, rights, true).ok()?;
    }
    // SAFETY: image, RAM, processors' areas and controllers are mapped: all that the kernel uses. The stack in use lies in the
    // image's data.
    unsafe { tables.install() };
    apic::choose_mode();
    for (index, (physical, first)) in machine.controllers.iter().enumerate() {
        ioapic::add(device(index + 1) + physical % PAGE_SIZE, *first);
    }
    pages.take(1)
}

/// Makes the frame table, declares what is free and what the modules lie in, and installs the capability engine.
fn install_engine(boot: &Information, pages: &mut BootPages, free: &Ranges) -> Option<()> {
    let count = boot.areas.iter().map(|area| area.end).max()?.div_ceil(PAGE_SIZE);
    let groups = FrameTable::groups_for(count);
    let entries = HostPhysical(pages.take_bytes(count * 4)?);
    let group_entries = HostPhysical(pages.take_bytes(groups * size_of::<Group>() as u64)?);
    // SAFETY: fresh zeroed pages that are the kernel's for ever, with room for that many entries.
    let frames = unsafe {
        let entries = Array::new(entries.object::<Cell<u32>>(), count);
        FrameTable::new(HostPhysical(0), entries, Array::new(group_entries.object::<Group>(), groups))
    };
    for range in free {
        frames.add_ram(FrameRange::new(HostPhysical(range.start), range.length()).ok()?).ok()?;
    }
    for module in boot.modules.iter().filter(|module| module.length > 0) {
        let length = module.length.next_multiple_of(PAGE_SIZE);
        frames.add_ram(FrameRange::new(HostPhysical(module.base), length).ok()?).ok()?;
    }
    object::install(Engine::new(frames));
    Some(())
}
