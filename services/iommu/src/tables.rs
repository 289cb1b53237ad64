//! What memory a device reaches: root table, context tables, and second-level page tables (sections 3.4.2, 3.7, 9.1, 9.3, 9.8).
//!
//! A device's addresses are host-physical ones: its tables map what it may reach to itself.

use crate::PAGE_BYTES;
use bulkhead_driver::DmaMemory;

const PAGE: u64 = PAGE_BYTES as u64;
/// Bytes of root and context entries, and of page-table entries.
const ENTRY: usize = 16;
const PAGE_ENTRY: usize = 8;
/// Bits of an address that each level translates.
const LEVEL_BITS: u32 = 9;
const PRESENT: u64 = 1;
const READ: u64 = 1;
const WRITE: u64 = 2;
const LARGE: u64 = 1 << 7;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// Level of the tables whose entries map pages, and 2 MiB.
const PAGES: u32 = 1;
const LARGE_PAGES: u32 = 2;

/// What all units can translate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Format {
    /// Levels of page tables, 3 or 4, as bits 0 and 1.
    levels: u8,
    /// Pages of 2 MiB.
    large_pages: bool,
    /// Domains, number 0 included.
    domains: u32,
    /// Bits of an address.
    address_bits: u32,
}

impl Format {
    /// From a unit's capability register (11.4.2); `None` if it has neither three nor four levels.
    pub(crate) fn of(capability: u64) -> Option<Self> {
        let levels = (capability >> 9 & 3) as u8;
        (levels != 0).then_some(Self {
            levels,
            large_pages: capability >> 34 & 1 != 0,
            domains: 1 << (4 + 2 * (capability & 7)),
            address_bits: (capability >> 16 & 0x3f) as u32 + 1,
        })
    }

    /// What two units both can; `None` if they have no number of levels in common.
    pub fn and(self, other: Self) -> Option<Self> {
        let levels = self.levels & other.levels;
        (levels != 0).then_some(Self {
            levels,
            large_pages: self.large_pages && other.large_pages,
            domains: self.domains.min(other.domains),
            address_bits: self.address_bits.min(other.address_bits),
        })
    }

    /// Levels that are used: as few as there may be.
    const fn depth(self) -> u32 {
        if self.levels & 1 != 0 { 3 } else { 4 }
    }

    /// First address that is not translated.
    fn end(self) -> u64 {
        1 << (12 + LEVEL_BITS * self.depth()).min(self.address_bits)
    }
}

/// Memory that a device may reach, in whole pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    /// Physical address.
    pub address: u64,
    /// Bytes.
    pub length: u64,
    /// Whether the device may write.
    pub writable: bool,
}

/// Why a device gets no tables. It then reaches nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TableError {
    /// There is too little memory for tables.
    Memory,
    /// A range is not of whole pages, or lies where the units do not translate.
    Range,
    /// The units tell fewer devices apart.
    Domains,
    /// The device has tables already.
    Twice,
}

/// The tables, in memory that nobody else writes to.
#[derive(Debug)]
pub struct Tables<'a> {
    free: DmaMemory<'a>,
    all: DmaMemory<'a>,
    root: DmaMemory<'a>,
    format: Format,
    next_domain: u32,
}

impl<'a> Tables<'a> {
    /// Tables by which no device reaches anything; `None` if there is no memory for them.
    pub fn new(memory: DmaMemory<'a>, format: Format) -> Option<Self> {
        let mut free = memory;
        let root = page(&mut free)?;
        // Some units, which cache what is not present, keep domain 0 for themselves (6.1).
        Some(Self { free, all: memory, root, format, next_domain: 1 })
    }

    /// Physical address of the root table.
    pub const fn root(&self) -> u64 {
        self.root.physical()
    }

    /// Lets a device (bus << 8 | device << 3 | function) reach these ranges and nothing else.
    ///
    /// # Errors
    /// See [`TableError`]; the device then reaches nothing.
    pub fn add(&mut self, requester: u16, ranges: impl IntoIterator<Item = Range>) -> Result<(), TableError> {
        let domain = self.next_domain;
        if domain >= self.format.domains || domain > u32::from(u16::MAX) {
            return Err(TableError::Domains);
        }
        let contexts = self.below(self.root, usize::from(requester >> 8) * ENTRY, PRESENT)?;
        let place = usize::from(requester & 0xff) * ENTRY;
        if contexts.read_u64(place) & PRESENT != 0 {
            return Err(TableError::Twice);
        }
        let top = page(&mut self.free).ok_or(TableError::Memory)?;
        for range in ranges {
            self.map(top, range)?;
        }
        self.next_domain += 1;
        let width = u64::from(self.format.depth()) - 2;
        contexts.write_u64(place + 8, width | u64::from(domain) << 8);
        contexts.write_u64(place, top.physical() | PRESENT);
        Ok(())
    }

    fn map(&mut self, top: DmaMemory<'a>, range: Range) -> Result<(), TableError> {
        let end = range.address.checked_add(range.length).filter(|end| *end <= self.format.end());
        let end = end.ok_or(TableError::Range)?;
        if !range.address.is_multiple_of(PAGE) || !range.length.is_multiple_of(PAGE) {
            return Err(TableError::Range);
        }
        let rights = if range.writable { READ | WRITE } else { READ };
        let large = PAGE << LEVEL_BITS;
        let mut address = range.address;
        while address < end {
            let is_large = self.format.large_pages && address.is_multiple_of(large) && end - address >= large;
            let (level, bytes) = if is_large { (LARGE_PAGES, large) } else { (PAGES, PAGE) };
            self.map_one(top, address, level, rights)?;
            address += bytes;
        }
        Ok(())
    }

    /// Maps one page by an entry of a table of `level`. What two ranges both have, the device may use as either says.
    fn map_one(&mut self, top: DmaMemory<'a>, address: u64, level: u32, rights: u64) -> Result<(), TableError> {
        let place = |level: u32| (address >> (12 + LEVEL_BITS * (level - 1)) & 0x1ff) as usize * PAGE_ENTRY;
        let mut table = top;
        for above in (level + 1..=self.format.depth()).rev() {
            if table.read_u64(place(above)) & LARGE != 0 {
                self.split(table, place(above))?;
            }
            table = self.below(table, place(above), READ | WRITE)?;
        }
        let old = table.read_u64(place(level));
        if level == LARGE_PAGES && old != 0 && old & LARGE == 0 {
            // There are single pages already.
            let large = PAGE << LEVEL_BITS;
            return (0..large / PAGE).try_for_each(|page| self.map_one(top, address + page * PAGE, PAGES, rights));
        }
        let kind = if level == LARGE_PAGES { LARGE } else { 0 };
        table.write_u64(place(level), address | rights | kind | old & (READ | WRITE));
        Ok(())
    }

    /// Makes single pages of a large one.
    fn split(&mut self, table: DmaMemory<'a>, place: usize) -> Result<(), TableError> {
        let old = table.read_u64(place);
        let pages = page(&mut self.free).ok_or(TableError::Memory)?;
        for number in 0..1usize << LEVEL_BITS {
            let address = (old & ADDRESS) + number as u64 * PAGE;
            pages.write_u64(number * PAGE_ENTRY, address | old & (READ | WRITE));
        }
        table.write_u64(place, pages.physical() | READ | WRITE);
        Ok(())
    }

    /// The table that an entry leads to, which is made if it leads to none; `flags` are those of an entry that does.
    fn below(&mut self, table: DmaMemory<'a>, place: usize, flags: u64) -> Result<DmaMemory<'a>, TableError> {
        let entry = table.read_u64(place);
        if entry & flags == 0 {
            let new = page(&mut self.free).ok_or(TableError::Memory)?;
            table.write_u64(place, new.physical() | flags);
            return Ok(new);
        }
        let offset = (entry & ADDRESS).wrapping_sub(self.all.physical());
        let offset = usize::try_from(offset).map_err(|_| TableError::Memory)?;
        self.all.part(offset, PAGE_BYTES).ok_or(TableError::Memory)
    }
}

/// A page of zeroes.
pub(crate) fn page<'a>(memory: &mut DmaMemory<'a>) -> Option<DmaMemory<'a>> {
    let page = memory.take(PAGE_BYTES, PAGE)?;
    page.clear();
    Some(page)
}

/// Most bytes of tables for devices that reach ranges of these lengths, one list a device, whatever the units can and wherever the ranges
/// lie; with the pages of the interrupt table and of the units' queues.
pub fn bytes_needed<L: IntoIterator<Item = u64>>(devices: impl IntoIterator<Item = L>) -> u64 {
    // Tables that map so many bytes: at both ends one of each level may hold a part.
    let tables = |length: u64| length.div_ceil(PAGE << LEVEL_BITS) + length.div_ceil(PAGE << (2 * LEVEL_BITS)) + 4;
    let of_device = |ranges: L| 2 + ranges.into_iter().map(tables).sum::<u64>();
    let pages: u64 = devices.into_iter().map(of_device).sum();
    (pages + 2 + crate::MAX_UNITS as u64) * PAGE
}
