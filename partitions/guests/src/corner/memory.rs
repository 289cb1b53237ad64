//! Memory for the tests: pages that each test maps as it likes, and a view of the first GiB for code of CPL 3.

use super::global::Global;
use super::registers;

/// Entries of a page table.
type Table = [u64; 512];

/// A page.
#[derive(Clone, Copy)]
#[repr(C, align(4096))]
struct Page<T>(T);

/// Where the pages are that tests map (the second entry of the highest table).
const ARENA: u64 = 1 << 39;
/// Where code of CPL 3 sees the first GiB (the third entry).
const USER_VIEW: u64 = 2 << 39;

/// Page-table entries: present.
pub const PRESENT: u64 = 1 << 0;
/// Writable.
pub const WRITABLE: u64 = 1 << 1;
/// For CPL 3, too.
pub const USER: u64 = 1 << 2;
const LARGE: u64 = 1 << 7;
/// Not executable.
pub const NO_EXECUTE: u64 = 1 << 63;
/// Bits that are a frame's address.
const FRAME: u64 = 0x000f_ffff_ffff_f000;

/// The registers of the local APIC.
pub const APIC: u64 = 0xfee0_0000;
/// Guest-physical memory below 4 GiB where a PC has nothing.
pub const NOTHING: u64 = 0xfea0_0000;

/// RAM pages behind the arena.
const PAGES: usize = 16;

static ARENA_POINTERS: Global<Page<Table>> = Global::new(Page([0; 512]));
static ARENA_DIRECTORY: Global<Page<Table>> = Global::new(Page([0; 512]));
static ARENA_TABLE: Global<Page<Table>> = Global::new(Page([0; 512]));
static USER_POINTERS: Global<Page<Table>> = Global::new(Page([0; 512]));
static USER_DIRECTORY: Global<Page<Table>> = Global::new(Page([0; 512]));
static RAM: Global<Page<[[u8; 4096]; PAGES]>> = Global::new(Page([[0; 4096]; PAGES]));
static STACK: Global<Page<[u8; 16384]>> = Global::new(Page([0; 16384]));

/// Guest-physical memory that nothing else uses, for a large page.
const LARGE_FRAME: u64 = 8 << 20;

/// A page of the arena, with the entries that map it.
pub struct Target {
    /// Where the entry that maps the page is, and the one above it.
    leaf: u64,
    upper: u64,
    /// What is behind the upper entry.
    below: u64,
    /// Bits that the leaf needs for its size.
    size: u64,
    /// What is mapped, and where.
    pub frame: u64,
    pub page: u64,
}

impl Target {
    /// Sets both entries, whose addresses are given.
    pub fn set(&self, upper: u64, leaf: u64) {
        write_u64(self.upper, self.below | upper);
        write_u64(self.leaf, self.frame | self.size | leaf);
        registers::invalidate(self.page);
    }

    /// Both entries: upper and leaf.
    pub fn get(&self) -> (u64, u64) {
        (read_u64(self.upper), read_u64(self.leaf))
    }
}

/// A page of 4 KiB.
pub fn small_target() -> Target {
    let (leaf, upper) = (ARENA_TABLE.address(), ARENA_DIRECTORY.address());
    Target { leaf, upper, below: leaf, size: 0, frame: frame(0), page: page(0) }
}

/// A page of 2 MiB.
pub fn large_target() -> Target {
    let (below, upper) = (ARENA_DIRECTORY.address(), ARENA_POINTERS.address());
    Target { leaf: below + 8, upper, below, size: LARGE, frame: LARGE_FRAME, page: page(512) }
}

/// Adds both areas to the page tables in use.
pub fn install() {
    let entry = |index: u64, value: u64| write_u64((registers::cr3() & FRAME) + 8 * index, value);
    let all = PRESENT | WRITABLE | USER;
    entry(1, ARENA_POINTERS.address() | all);
    entry(2, USER_POINTERS.address() | all);
    write_u64(ARENA_POINTERS.address(), ARENA_DIRECTORY.address() | all);
    write_u64(ARENA_DIRECTORY.address(), ARENA_TABLE.address() | all);
    write_u64(USER_POINTERS.address(), USER_DIRECTORY.address() | all);
    for index in 0..512 {
        write_u64(USER_DIRECTORY.address() + 8 * index, index << 21 | LARGE | all);
    }
}

/// What CPL 3 sees at this address of the program.
pub const fn user_view(address: u64) -> u64 {
    USER_VIEW + address
}

/// Top of the stack on which pieces of code run.
pub fn stack_top() -> u64 {
    STACK.address() + 16384
}

/// Linear address of a page of the arena.
pub const fn page(index: u64) -> u64 {
    ARENA + index * 4096
}

/// Physical address, which is also a linear one, of a RAM page for the arena.
pub fn frame(index: u64) -> u64 {
    RAM.address() + index % PAGES as u64 * 4096
}

/// Sets the page-table entry of a page of the arena, and answers the page's address.
pub fn map(index: u64, entry: u64) -> u64 {
    write_u64(ARENA_TABLE.address() + 8 * (index & 511), entry);
    registers::invalidate(page(index));
    page(index)
}

/// The page-table entry of a page of the arena.
pub fn entry(index: u64) -> u64 {
    read_u64(ARENA_TABLE.address() + 8 * (index & 511))
}

/// Maps a page of the arena to its RAM, for CPL 0, writable.
pub fn map_ram(index: u64) -> u64 {
    map(index, frame(index) | PRESENT | WRITABLE)
}

/// Writes to the program's memory or a device.
pub fn write_u64(address: u64, value: u64) {
    // SAFETY: the tests only name memory that is theirs.
    unsafe { (address as *mut u64).write_volatile(value) }
}

/// Reads the program's memory.
pub fn read_u64(address: u64) -> u64 {
    // SAFETY: as for writing.
    unsafe { (address as *const u64).read_volatile() }
}

/// Fills memory.
pub fn fill(address: u64, length: u64, value: u8) {
    for offset in 0..length {
        // SAFETY: as for writing.
        unsafe { ((address + offset) as *mut u8).write_volatile(value) }
    }
}
