//! The kernel's own address space, and the few accesses to physical memory outside the capability engine.

pub mod boot_pages;
pub mod layout;

use crate::object::engine;
use boot_pages::Range;
use bulkhead_abi::{Error, PAGE_SIZE, Rights};
use bulkhead_core::frames::FrameRange;
use bulkhead_core::page_table::{Attributes, Mapping, Native, PageSize, PageTable, Pool};
use bulkhead_core::phys::HostPhysical;
use bulkhead_core::slot::Slot;
use core::sync::atomic::{AtomicU64, Ordering};
use layout::{DIRECT_MAP, IMAGE_OFFSET};

/// Physical address of the root of the kernel's own page tables. The start-up code of processors loads it.
#[unsafe(no_mangle)]
static KERNEL_SPACE: AtomicU64 = AtomicU64::new(0);

/// Physical address of the root of the kernel's own page tables.
pub fn kernel_space() -> u64 {
    KERNEL_SPACE.load(Ordering::Relaxed)
}

unsafe extern "C" {
    static text_start: [u8; 0];
    static text_end: [u8; 0];
    static rodata_start: [u8; 0];
    static rodata_end: [u8; 0];
    static data_start: [u8; 0];
    static data_end: [u8; 0];
}

/// A kernel mapping.
pub struct KernelTables<'a> {
    table: PageTable<Native>,
    pool: &'a Pool,
}

impl<'a> KernelTables<'a> {
    /// Empty tables; pages come from the pool.
    pub fn new(pool: &'a Pool) -> Option<Self> {
        Some(Self { table: PageTable::new(pool.take()?), pool })
    }

    /// Maps a range for the kernel alone.
    pub fn map(&self, address: u64, physical: u64, length: u64, rights: Rights, uncached: bool) -> Result<(), Error> {
        let mapping = Mapping::new(address, HostPhysical(physical), length)?;
        self.table.map(&mapping, Attributes { rights, uncached, user: false }, self.pool, PageSize::Large)
    }

    /// Maps the kernel image: code executable and not writable, constants neither, data not executable. Its pages in the direct
    /// map are constants' or data's.
    pub fn map_image(&self) -> Result<(), Error> {
        let (read, write, execute) = (Rights::READ, Rights::READ | Rights::WRITE, Rights::READ | Rights::EXECUTE);
        let parts = [
            (&raw const text_start, &raw const text_end, execute, read),
            (&raw const rodata_start, &raw const rodata_end, read, read),
            (&raw const data_start, &raw const data_end, write, write),
        ];
        for (start, end, rights, alias) in parts {
            let (start, end) = (start as u64, (end as u64).next_multiple_of(PAGE_SIZE));
            let physical = start - IMAGE_OFFSET;
            self.map(start, physical, end - start, rights, false)?;
            self.map(DIRECT_MAP + physical, physical, end - start, alias, false)?;
        }
        Ok(())
    }

    /// Makes these the kernel's tables, on the executing processor and for all partitions to come.
    ///
    /// # Safety
    /// Whatever the kernel uses must be mapped.
    pub unsafe fn install(self) {
        let root = self.table.root().0;
        KERNEL_SPACE.store(root, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { load_space(root) }
    }
}

/// Switches the executing processor's address space.
///
/// # Safety
/// `root` must be the root of tables that map the kernel.
#[inline(always)]
pub unsafe fn load_space(root: u64) {
    // SAFETY: as the caller promises.
    unsafe { core::arch::asm!("mov cr3, {}", in(reg) root, options(nostack, preserves_flags)) }
}

/// Physical addresses of the kernel image, its low part included, in whole pages.
pub fn image_range() -> Range {
    Range { start: 0x20_0000, end: (&raw const data_end) as u64 - IMAGE_OFFSET }
}

/// Linked addresses of the kernel's code.
pub fn text_range() -> Range {
    Range { start: (&raw const text_start) as u64, end: (&raw const text_end) as u64 }
}

/// Entries of the kernel's half of a root table.
const KERNEL_ENTRIES: core::ops::Range<usize> = 256..512;

/// Copies the kernel's half of the root table into another one: its lower tables are shared, and never change after boot.
pub fn copy_kernel_half(root: HostPhysical) {
    let source = (DIRECT_MAP + kernel_space()) as *const u64;
    let target = (DIRECT_MAP + root.0) as *mut u64;
    for index in KERNEL_ENTRIES {
        // SAFETY: both are whole pages of the kernel's in the direct map.
        unsafe { target.add(index).write_volatile(source.add(index).read_volatile()) }
    }
}

/// Where so many bytes of a page that is RAM of partitions lie in the direct map. Such memory may become the kernel's whenever the
/// kernel lock is given up.
fn partition_bytes(place: HostPhysical, length: usize) -> Result<*mut u8, Error> {
    let offset = place.0 % PAGE_SIZE;
    let range = FrameRange::page(HostPhysical(place.0 - offset))?;
    let is_inside = length as u64 <= PAGE_SIZE - offset;
    Error::MemoryInUse.when(!is_inside || !engine().frames().is_partition_ram(range))?;
    Ok((DIRECT_MAP + place.0) as *mut u8)
}

/// Words of memory that partitions may have mapped, from a multiple of their length on.
pub fn words_of<const COUNT: usize>(memory: &Slot, index: u64) -> Result<&[AtomicU64; COUNT], Error> {
    let length = size_of::<[AtomicU64; COUNT]>();
    let place = partition_bytes(HostPhysical(memory.physical().0 + index * length as u64), length)?;
    // SAFETY: aligned words of partitions' RAM in the direct map; partitions may race, which atomics allow.
    Ok(unsafe { &*place.cast::<[AtomicU64; COUNT]>() })
}

/// Writes plain data to partitions' RAM, inside one page.
pub fn write_to_page<T: zerocopy::IntoBytes + zerocopy::Immutable>(
    place: HostPhysical,
    value: &T,
) -> Result<(), Error> {
    let bytes = value.as_bytes();
    let target = partition_bytes(place, bytes.len())?;
    // SAFETY: so many bytes of partitions' RAM in the direct map; partitions may race, which this copy allows, and nothing is
    // assumed of the result.
    unsafe { bulkhead_intrinsics::copy_up(target, bytes.as_ptr(), bytes.len()) };
    Ok(())
}
