//! What changes of page tables cost, measured inside the guest: nothing of it exits where the hardware translates by itself.

use crate::instructions::read_cr3;
use crate::{bench, exceptions, machine};
use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Guest-physical memory that nothing else uses: tables, and pages to be mapped.
const TABLES: u64 = 32 << 20;
const PAGES: u64 = 36 << 20;
/// Where the pages are mapped: the second entry of the highest table.
const ARENA: u64 = 1 << 39;
/// How many pages a measurement touches.
const COUNT: u64 = 64;
/// Pages that are touched for the first time, at most: a power of two.
const MANY: u64 = 2048;
/// Page-table entries: present and writable.
pub const MAPPED: u64 = 3;
/// Present, writable, accessed and dirty.
const USED: u64 = 0x63;

/// Where the page tables are that the handler of page faults fills.
#[unsafe(no_mangle)]
static GUEST_DEMAND_TABLES: AtomicU64 = AtomicU64::new(0);

// Maps the page that was missing, as a system does on demand.
global_asm!(
    ".pushsection .text",
    "guest_demand_fault:",
    "push rax",
    "push rcx",
    "mov rax, cr2",
    "shr rax, 12",
    "and eax, {mask}",
    "mov rcx, [rip + GUEST_DEMAND_TABLES]",
    "mov qword ptr [rcx + 8 * rax], {entry}",
    "pop rcx",
    "pop rax",
    "add rsp, 8",
    "iretq",
    ".popsection",
    mask = const MANY - 1,
    entry = const PAGES | MAPPED,
);

unsafe extern "C" {
    fn guest_demand_fault();
}

/// Measures an operation, between two checkpoints: the first operation between 0 and 1, the next between 2 and 3, and so on.
#[inline(always)]
fn measure(name: &str, operation: impl FnMut()) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mark = || machine::checkpoint(NEXT.fetch_add(1, Ordering::Relaxed));
    bench::measure_between(name, "", mark, operation);
}

/// A table.
pub fn table(number: u64) -> u64 {
    TABLES + 4096 * number
}

/// A page to be mapped.
pub fn page(number: u64) -> u64 {
    PAGES + 4096 * (number % COUNT)
}

/// Writes an entry of a table.
pub fn write(table: u64, index: u64, value: u64) {
    // SAFETY: the tables are mapped at their addresses, and nothing else uses their memory.
    unsafe { ((table + 8 * index) as *mut u64).write_volatile(value) }
}

/// Reads from a page of the arena.
pub fn read(number: u64) -> u64 {
    // SAFETY: the page is mapped, by the caller.
    unsafe { ((ARENA + 4096 * number) as *const u64).read_volatile() }
}

fn touch(number: u64) {
    read(number);
}

/// Loads CR3 with the root of a space that [`build`] has made.
pub fn load_cr3(value: u64) {
    // SAFETY: all spaces map this program as the first does.
    unsafe { asm!("mov cr3, {}", in(reg) value, options(nostack, preserves_flags)) };
}

/// INVLPG of a page of the arena.
pub fn invalidate(number: u64) {
    // SAFETY: forgets a translation.
    unsafe { asm!("invlpg [{}]", in(reg) ARENA + 4096 * number, options(nostack, preserves_flags)) };
}

/// Writes tables from `first` on for a space that maps pages at the arena: root, pointers, directory, page tables.
pub fn build(first: u64, old_root: u64, pages: u64, flags: u64) -> u64 {
    let root = table(first);
    // SAFETY: both are tables of a page.
    unsafe { core::ptr::copy_nonoverlapping(old_root as *const u64, root as *mut u64, 512) };
    write(root, 1, table(first + 1) | USED);
    write(table(first + 1), 0, table(first + 2) | USED);
    for number in 0..pages {
        let index = first + 3 + number / 512;
        write(table(first + 2), number / 512, table(index) | USED);
        write(table(index), number % 512, page(number) | flags);
    }
    root
}

/// Takes all figures.
pub fn run() {
    let old = read_cr3() & !0xfff;
    load_cr3(build(0, old, MANY, MAPPED));
    let mut next = 0;
    measure("shadow.fill", || {
        touch(next);
        next += 1;
    });
    let (a, b) = (build(16, old, COUNT, USED), build(24, old, COUNT, USED));
    let mut other = [b, a].into_iter().cycle();
    load_cr3(a);
    measure("shadow.cr3_switch", || load_cr3(other.next().unwrap_or(a)));
    measure("shadow.two_spaces", || {
        for root in [b, a] {
            load_cr3(root);
            (0..COUNT).for_each(touch);
        }
    });
    load_cr3(a);
    let entries = table(19);
    measure("shadow.invlpg", || invalidate(5));
    let mut target = 0;
    measure("shadow.pte_modify", || {
        target += 1;
        write(entries, 5, page(target) | USED);
        invalidate(5);
        touch(5);
    });
    measure("shadow.map_touch_unmap", || {
        write(entries, 200, page(1) | MAPPED);
        touch(200);
        write(entries, 200, 0);
        invalidate(200);
    });
    measure("shadow.map64", || {
        (0..COUNT).for_each(|number| write(entries, 256 + number, page(number) | MAPPED));
        (0..COUNT).for_each(|number| touch(256 + number));
        (0..COUNT).for_each(|number| write(entries, 256 + number, 0));
        load_cr3(a);
    });
    GUEST_DEMAND_TABLES.store(table(48 + 3), Ordering::Relaxed);
    exceptions::handle_page_faults(guest_demand_fault);
    load_cr3(build(48, old, MANY, 0));
    let mut next = 0;
    measure("shadow.demand_fault", || {
        touch(next);
        next += 1;
    });
    load_cr3(a);
    let mut first = 32;
    measure("shadow.new_space", || {
        first = if first == 32 { 40 } else { 32 };
        load_cr3(build(first, old, COUNT, MAPPED));
        (0..COUNT).for_each(touch);
        load_cr3(a);
    });
    load_cr3(old);
}
