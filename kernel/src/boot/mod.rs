//! From the boot loader to the first thread of init.

mod elf;
mod firmware;
mod information;
pub mod init;
mod processors;

use crate::arch::{apic, clock, ioapic, traps};
use crate::memory::boot_pages::{BootPages, Range, Ranges, free_ranges};
use crate::memory::layout::{DEVICES, DIRECT_MAP, TRAMPOLINE};
use crate::memory::{self, KernelTables};
use crate::object::thread::Thread;
use crate::{boot_line, object, symbols, time, vmx};
use bulkhead_abi::{CpuFeatures, PAGE_SIZE, Rights};
use bulkhead_core::engine::Engine;
use bulkhead_core::frames::{FrameRange, FrameTable, Group};
use bulkhead_core::page_table::Pool;
use bulkhead_core::phys::{Array, HostPhysical, Ref, set_window_base};
use core::arch::global_asm;
use core::cell::Cell;
use heapless::Vec;
use information::Information;

global_asm!(include_str!("start.s"));

/// Pages that the kernel keeps for its tables, besides what each processor and each GiB of RAM needs.
const KERNEL_PAGES: u64 = 1024;
/// Pages that a processor needs.
const PAGES_PER_CPU: u64 = 40;
/// RAM below this is left to firmware and start-up code.
const LOWEST: u64 = 1 << 20;
const _: () = assert!(TRAMPOLINE < LOWEST);

/// Whether a thread is init's first.
pub fn is_init(thread: Ref<Thread>) -> bool {
    init::thread() == Some(thread)
}

/// Stops before there is anything else that could show an error.
fn refuse(reason: &str) -> ! {
    boot_line!("refused: {reason}");
    boot_line!("end: failed: {reason}");
    crate::panic::halt()
}

/// Where the boot code enters Rust, on the first processor, with the boot tables: the first 4 GiB at 0 and in the direct map.
#[unsafe(no_mangle)]
extern "C" fn kernel_start(_magic: u32, information: u32, entry_tsc: u64) -> ! {
    set_window_base(DIRECT_MAP);
    // SAFETY: the assembly checked the magic and passed the address on.
    let boot = match unsafe { information::read(u64::from(information)) } {
        Ok(boot) => boot,
        Err(reason) => refuse(reason),
    };
    if let Some([symbols, strings]) = boot.symbols {
        // SAFETY: the sections are among the used memory, which stays mapped and is given to nobody.
        unsafe { symbols::keep(symbols, strings) };
    }
    let Some(root) = boot.acpi else { refuse("the boot loader found no ACPI tables") };
    let machine = match firmware::read(root) {
        Ok(machine) => machine,
        Err(reason) => refuse(reason),
    };
    let cpus = (machine.processors.len() as u64).max(1);
    let (mut pages, free) = claim(&boot, cpus);
    let result = build(&boot, &machine, &mut pages, &free, cpus);
    let Some(vmx_pages) = result else { refuse("too little memory for the kernel's own tables") };

    clock::silence_pics();
    time::set_frequency(clock::measure_tsc());
    if time::frequency() == 0 {
        refuse("the PIT does not count: no time base");
    }
    // SAFETY: the area is mapped and the kernel's space loaded, by `build`.
    let cpu = unsafe { processors::set_up_first(vmx_pages.first().copied().unwrap_or(0)) };
    apic::calibrate();
    processors::start_others(&machine.processors, cpu.apic_id.get(), &vmx_pages);
    let features = vmx::detect();
    boot_line!(
        "{} processors, TSC {} MHz, features {:?}",
        crate::arch::cpu::count(),
        time::frequency() / 1_000_000,
        features
    );
    if !features.contains(CpuFeatures::VMX) {
        boot_line!("no VMX on this machine: native partitions run, guests do not");
    }
    let lock = crate::lock::kernel_lock();
    if let Err(reason) = init::construct(&boot, &free, &mut pages, entry_tsc, features) {
        refuse(reason);
    }
    drop(lock);
    // SAFETY: the stack is this processor's own; nothing on the boot stack is needed any more.
    unsafe { traps::start_scheduling(cpu.stack_top.get()) }
}

/// Sets the kernel's own memory aside: the end of the largest free range below 4 GiB.
fn claim(boot: &Information, cpus: u64) -> (BootPages, Ranges) {
    let (start, end) = memory::image_range();
    let mut used = boot.used.clone();
    // Full lists were refused or are safe; see `information`.
    let _ = used.push(Range { start, end: end.next_multiple_of(PAGE_SIZE) });
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
/// Returns a page for each processor's VMXON; nothing if memory ran out.
fn build(
    boot: &Information,
    machine: &firmware::Machine,
    pages: &mut BootPages,
    free: &Ranges,
    cpus: u64,
) -> Option<Vec<u64, { crate::arch::cpu::MAX_CPUS }>> {
    install_engine(boot, pages, free)?;
    let pool = Pool::default();
    let ram = boot.areas.iter().map(|area| area.end).max()?;
    for _ in 0..160 + cpus * 4 + ram / (1 << 30) * 2 {
        pool.give(HostPhysical(pages.take(1)?));
    }
    let tables = KernelTables::new(&pool)?;
    tables.map_image().ok()?;
    let (image_start, image_end) = memory::image_range();
    let image_text = (DIRECT_MAP + image_start, DIRECT_MAP + image_end);
    for area in boot.areas.iter().chain(&boot.firmware) {
        map_around(&tables, area, image_text)?;
    }
    for number in 0..cpus {
        processors::map_area(&tables, pages, number as u32)?;
    }
    let rights = Rights::READ | Rights::WRITE;
    tables.map(DEVICES, apic::page_address(), PAGE_SIZE, rights, true).ok()?;
    let mut controllers = Vec::<(u64, u32), { ioapic::MAX_CONTROLLERS }>::new();
    for (index, (physical, first)) in machine.controllers.iter().enumerate() {
        let address = DEVICES + (index as u64 + 1) * PAGE_SIZE;
        let page = physical & !(PAGE_SIZE - 1);
        tables.map(address, page, PAGE_SIZE, rights, true).ok()?;
        controllers.push((address + (physical - page), *first)).ok()?;
    }
    // SAFETY: image, RAM, processors' areas and controllers are mapped: all that the kernel uses. The stack in use lies in the
    // image's data.
    unsafe { tables.install() };
    apic::choose_mode(DEVICES);
    ioapic::initialise(&controllers);
    let mut vmx_pages = Vec::new();
    for _ in 0..cpus {
        vmx_pages.push(pages.take(1)?).ok()?;
    }
    Some(vmx_pages)
}

/// Maps an area of RAM in the direct map, but for the kernel image, which has been mapped with narrower rights; the low part of
/// the image, which holds the start-up code, is mapped too.
fn map_around(tables: &KernelTables<'_>, area: &Range, image: (u64, u64)) -> Option<()> {
    let start = area.start & !(PAGE_SIZE - 1);
    let end = area.end.next_multiple_of(PAGE_SIZE);
    let (image_start, image_end) = (image.0 - DIRECT_MAP, (image.1 - DIRECT_MAP).next_multiple_of(PAGE_SIZE));
    let before = (start, end.min(image_start));
    let after = (start.max(image_end), end);
    for (from, to) in [before, after] {
        if from < to {
            tables.map_direct(from, to - from).ok()?;
        }
    }
    if start <= image_start && image_end <= end {
        let linked = memory::linked_start();
        tables.map_direct(image_start, linked - image_start).ok()?;
    }
    Some(())
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
    for module in &boot.modules {
        let length = module.range.length().next_multiple_of(PAGE_SIZE);
        if length > 0 {
            frames.add_ram(FrameRange::new(HostPhysical(module.range.start), length).ok()?).ok()?;
        }
    }
    object::install(Engine::new(frames));
    Some(())
}
