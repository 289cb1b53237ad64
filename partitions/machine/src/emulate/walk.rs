//! Guest page-table walks (SDM vol. 3, chapter 5): no paging, 32-bit with large pages, PAE, four levels.

use super::registers::{flags, privilege};
use crate::memory::{GuestLinear, GuestMemory, GuestPhysical};
use bulkhead_abi::{StateGroups, VcpuState};

const CR0_WP: u64 = 1 << 16;
const CR0_PG: u64 = 1 << 31;
const CR4_PSE: u64 = 1 << 4;
const CR4_PAE: u64 = 1 << 5;
const CR4_SMEP: u64 = 1 << 20;
const CR4_SMAP: u64 = 1 << 21;
const EFER_LMA: u64 = 1 << 10;
const EFER_NXE: u64 = 1 << 11;

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
/// Bits 51 to 12 of an entry.
const FRAME: u64 = 0x000f_ffff_ffff_f000;

/// Error-code bits of a page fault.
mod code {
    pub const PRESENT: u32 = 1 << 0;
    pub const WRITE: u32 = 1 << 1;
    pub const USER: u32 = 1 << 2;
    pub const RESERVED: u32 = 1 << 3;
    pub const FETCH: u32 = 1 << 4;
}

/// A page fault, as the guest must see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageFault {
    /// The address that could not be translated, for CR2.
    pub address: GuestLinear,
    /// The error code.
    pub code: u32,
}

/// What an access wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read data.
    Read,
    /// Write data, or read data that will be written.
    Write,
    /// Fetch an instruction.
    Fetch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Levels {
    None,
    Two,
    Pae,
    Four,
}

/// How a processor translates addresses, taken from its control registers and privilege level.
#[derive(Clone, Copy, Debug)]
pub struct Paging {
    levels: Levels,
    root: u64,
    /// PAE page-directory-pointer entries, when the processor's own are known.
    pdptes: Option<[u64; 4]>,
    user: bool,
    large_pages: bool,
    write_protect: bool,
    no_execute: bool,
    smep: bool,
    /// SMAP applies: it is on, and AC does not lift it.
    smap: bool,
}

impl Paging {
    /// The translation that `state` describes, for accesses at its current privilege level.
    #[inline]
    pub fn new(state: &VcpuState) -> Self {
        let levels = if state.cr0 & CR0_PG == 0 {
            Levels::None
        } else if state.efer & EFER_LMA != 0 {
            Levels::Four
        } else if state.cr4 & CR4_PAE != 0 {
            Levels::Pae
        } else {
            Levels::Two
        };
        let own_pdptes = levels == Levels::Pae && state.valid & StateGroups::PDPTES.bits() != 0;
        Self {
            levels,
            root: state.cr3,
            pdptes: if own_pdptes { Some(state.pdptes) } else { None },
            user: privilege(state) == 3,
            large_pages: state.cr4 & CR4_PSE != 0,
            write_protect: state.cr0 & CR0_WP != 0,
            no_execute: state.efer & EFER_NXE != 0 && matches!(levels, Levels::Pae | Levels::Four),
            smep: state.cr4 & CR4_SMEP != 0,
            smap: state.cr4 & CR4_SMAP != 0 && state.rflags & flags::AC == 0,
        }
    }

    #[cold]
    fn fault(&self, address: GuestLinear, access: Access, cause: u32) -> PageFault {
        let mut code = cause;
        if access == Access::Write {
            code |= code::WRITE;
        }
        if self.user {
            code |= code::USER;
        }
        if access == Access::Fetch && (self.no_execute || self.smep) {
            code |= code::FETCH;
        }
        PageFault { address, code }
    }

    /// Whether the rights that the whole walk gives allow `access` (SDM vol. 3, 5.6.1).
    #[inline]
    fn allows(&self, rights: Rights, access: Access) -> bool {
        let user_page = rights.all & USER != 0;
        if self.user && !user_page {
            return false;
        }
        match access {
            Access::Read => self.user || !user_page || !self.smap,
            Access::Write => {
                let allowed = rights.all & WRITABLE != 0 || (!self.user && !self.write_protect);
                allowed && (self.user || !user_page || !self.smap)
            }
            Access::Fetch => {
                let executable = rights.any & NO_EXECUTE == 0 || !self.no_execute;
                executable && (self.user || !user_page || !self.smep)
            }
        }
    }

    /// Refuses what the rights do not allow; otherwise says whether accessed and dirty flags need no change.
    #[inline]
    fn judge(&self, linear: GuestLinear, access: Access, rights: Rights, leaf: u64) -> Result<bool, PageFault> {
        if !self.allows(rights, access) {
            return Err(self.fault(linear, access, code::PRESENT));
        }
        Ok(rights.all & ACCESSED != 0 && (access != Access::Write || leaf & DIRTY != 0))
    }
}

/// Rights and flags gathered over the levels: what all entries have, and what any has.
#[derive(Clone, Copy)]
struct Rights {
    all: u64,
    any: u64,
}

/// A translation, and whether accessed and dirty flags are set as the access needs them.
struct Found {
    physical: GuestPhysical,
    marked: bool,
}

/// How often a walk starts again because the guest changed an entry whose flags were being set. After that the flags are
/// the guest's loss.
const ATTEMPTS: u32 = 8;

/// Translates `linear` for `access`, and sets accessed and dirty flags as the processor would.
///
/// # Errors
/// The page fault that the processor would raise. A page table outside of RAM reads as all ones, as from an empty bus.
#[inline]
pub fn walk(
    memory: &impl GuestMemory,
    paging: &Paging,
    linear: GuestLinear,
    access: Access,
) -> Result<GuestPhysical, PageFault> {
    let linear = match paging.levels {
        Levels::Four => linear,
        Levels::None => return Ok(GuestPhysical(linear.0 & 0xffff_ffff)),
        Levels::Two | Levels::Pae => GuestLinear(linear.0 & 0xffff_ffff),
    };
    let found = look_up(memory, paging, linear, access)?;
    if found.marked { Ok(found.physical) } else { mark(memory, paging, linear, access) }
}

#[inline]
fn look_up(
    memory: &impl GuestMemory,
    paging: &Paging,
    linear: GuestLinear,
    access: Access,
) -> Result<Found, PageFault> {
    match paging.levels {
        Levels::Two => look_up_two(memory, paging, linear, access),
        Levels::Pae => match pae_directory(memory, paging, linear) {
            Some(directory) => look_up_wide(memory, paging, linear, access, directory, 21),
            None => Err(paging.fault(linear, access, 0)),
        },
        Levels::Four | Levels::None => look_up_wide(memory, paging, linear, access, paging.root & FRAME, 39),
    }
}

/// Sets flags, and looks up again, until nothing has changed in between.
#[cold]
fn mark(
    memory: &impl GuestMemory,
    paging: &Paging,
    linear: GuestLinear,
    access: Access,
) -> Result<GuestPhysical, PageFault> {
    for _ in 0..ATTEMPTS {
        match paging.levels {
            Levels::Two => mark_two(memory, paging, linear, access),
            Levels::Pae => {
                if let Some(directory) = pae_directory(memory, paging, linear) {
                    mark_wide(memory, linear, access, directory, 21);
                }
            }
            Levels::Four | Levels::None => mark_wide(memory, linear, access, paging.root & FRAME, 39),
        }
        let found = look_up(memory, paging, linear, access)?;
        if found.marked {
            return Ok(found.physical);
        }
    }
    look_up(memory, paging, linear, access).map(|found| found.physical)
}

/// Address of the entry for `linear` in a table of 8-byte entries whose index starts at bit `shift`.
#[inline]
fn wide_entry(table: u64, linear: GuestLinear, shift: u32) -> GuestPhysical {
    GuestPhysical(table + (linear.0 >> shift & 0x1ff) * 8)
}

#[inline]
fn is_leaf(entry: u64, shift: u32) -> bool {
    shift == 12 || (entry & LARGE != 0 && shift <= 30)
}

/// Looks up in 8-byte entries, from the table at `table` on.
#[inline]
fn look_up_wide(
    memory: &impl GuestMemory,
    paging: &Paging,
    linear: GuestLinear,
    access: Access,
    mut table: u64,
    mut shift: u32,
) -> Result<Found, PageFault> {
    let mut rights = Rights { all: u64::MAX, any: 0 };
    loop {
        let entry = memory.read_u64(wide_entry(table, linear, shift)).unwrap_or(u64::MAX);
        if entry & PRESENT == 0 {
            return Err(paging.fault(linear, access, 0));
        }
        rights.all &= entry;
        rights.any |= entry;
        if is_leaf(entry, shift) {
            let within = (1u64 << shift) - 1;
            // In a large page bit 12 selects the memory type; the other bits below the frame are reserved.
            let reserved = if shift == 12 { 0 } else { entry & FRAME & within & !(1 << 12) };
            if reserved != 0 || rights.any & NO_EXECUTE != 0 && !paging.no_execute {
                return Err(paging.fault(linear, access, code::PRESENT | code::RESERVED));
            }
            let marked = paging.judge(linear, access, rights, entry)?;
            return Ok(Found { physical: GuestPhysical(entry & FRAME & !within | linear.0 & within), marked });
        }
        if entry & LARGE != 0 {
            return Err(paging.fault(linear, access, code::PRESENT | code::RESERVED));
        }
        table = entry & FRAME;
        shift -= 9;
    }
}

fn mark_wide(memory: &impl GuestMemory, linear: GuestLinear, access: Access, mut table: u64, mut shift: u32) {
    loop {
        let address = wide_entry(table, linear, shift);
        let Ok(entry) = memory.read_u64(address) else {
            return;
        };
        let leaf = is_leaf(entry, shift);
        if !mark_entry(memory, address, entry, leaf, access) || leaf || shift == 12 {
            return;
        }
        table = entry & FRAME;
        shift -= 9;
    }
}

/// The page directory for `linear` under PAE, from the entries that the processor holds, else from memory.
fn pae_directory(memory: &impl GuestMemory, paging: &Paging, linear: GuestLinear) -> Option<u64> {
    let index = linear.0 >> 30 & 3;
    let pointer = match paging.pdptes {
        Some(entries) => entries.get(index as usize).copied()?,
        None => memory.read_u64(GuestPhysical((paging.root & 0xffff_ffe0) + index * 8)).ok()?,
    };
    (pointer & PRESENT != 0).then_some(pointer & FRAME)
}

/// Address of the directory entry under 32-bit paging.
fn directory_entry(paging: &Paging, linear: GuestLinear) -> GuestPhysical {
    GuestPhysical((paging.root & 0xffff_f000) + (linear.0 >> 22) * 4)
}

/// Address of the table entry that a directory entry leads to.
fn table_entry(directory: u64, linear: GuestLinear) -> GuestPhysical {
    GuestPhysical((directory & 0xffff_f000) + (linear.0 >> 12 & 0x3ff) * 4)
}

fn look_up_two(
    memory: &impl GuestMemory,
    paging: &Paging,
    linear: GuestLinear,
    access: Access,
) -> Result<Found, PageFault> {
    let read = |address| memory.read_u32(address).map_or(u64::from(u32::MAX), u64::from);
    let directory = read(directory_entry(paging, linear));
    if directory & PRESENT == 0 {
        return Err(paging.fault(linear, access, 0));
    }
    if directory & LARGE != 0 && paging.large_pages {
        // PSE-36: bits 20 to 13 of the entry are bits 39 to 32 of the address; bit 21 is reserved.
        if directory & (1 << 21) != 0 {
            return Err(paging.fault(linear, access, code::PRESENT | code::RESERVED));
        }
        let marked = paging.judge(linear, access, Rights { all: directory, any: 0 }, directory)?;
        let frame = directory & 0xffc0_0000 | (directory >> 13 & 0xff) << 32;
        return Ok(Found { physical: GuestPhysical(frame | linear.0 & 0x3f_ffff), marked });
    }
    let entry = read(table_entry(directory, linear));
    if entry & PRESENT == 0 {
        return Err(paging.fault(linear, access, 0));
    }
    let marked = paging.judge(linear, access, Rights { all: directory & entry, any: 0 }, entry)?;
    Ok(Found { physical: GuestPhysical(entry & 0xffff_f000 | linear.0 & 0xfff), marked })
}

fn mark_two(memory: &impl GuestMemory, paging: &Paging, linear: GuestLinear, access: Access) {
    let address = directory_entry(paging, linear);
    let Ok(directory) = memory.read_u32(address).map(u64::from) else {
        return;
    };
    let leaf = directory & LARGE != 0 && paging.large_pages;
    if !mark_entry(memory, address, directory, leaf, access) || leaf {
        return;
    }
    let address = table_entry(directory, linear);
    if let Ok(entry) = memory.read_u32(address).map(u64::from) {
        mark_entry(memory, address, entry, true, access);
    }
}

/// Sets the flags in one entry, unless it has changed since it was read. Whether the walk may go on from it.
fn mark_entry(memory: &impl GuestMemory, address: GuestPhysical, entry: u64, leaf: bool, access: Access) -> bool {
    let wanted = ACCESSED | if leaf && access == Access::Write { DIRTY } else { 0 };
    if entry & PRESENT == 0 {
        return false;
    }
    // The flags are in the lower half, which is where a change matters: a guest changes the upper half of an entry in use
    // only together with the lower.
    entry & wanted == wanted || memory.replace_u32(address, entry as u32, (entry | wanted) as u32) == Ok(true)
}

#[cfg(test)]
#[path = "walk_test.rs"]
mod test;
