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
}

/// Rights and accessed flags gathered over the levels.
#[derive(Clone, Copy)]
struct Rights {
    all: u64,
    any: u64,
}

/// One entry that a walk used, so that its accessed and dirty flags can be set.
#[derive(Clone, Copy)]
struct Used {
    address: GuestPhysical,
    value: u64,
}

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
    match paging.levels {
        Levels::None => Ok(GuestPhysical(linear.0 & 0xffff_ffff)),
        Levels::Four => walk_wide(memory, paging, linear, access, paging.root & FRAME, 39),
        Levels::Pae => walk_pae(memory, paging, linear, access),
        Levels::Two => walk_two(memory, paging, linear, access),
    }
}

/// Walks 8-byte entries from the table at `table`, whose index starts at bit `shift` of the address.
#[inline]
fn walk_wide(
    memory: &impl GuestMemory,
    paging: &Paging,
    linear: GuestLinear,
    access: Access,
    mut table: u64,
    mut shift: u32,
) -> Result<GuestPhysical, PageFault> {
    let mut used = [Used {
        address: GuestPhysical(0),
        value: 0,
    }; 4];
    let mut count = 0;
    let mut rights = Rights {
        all: u64::MAX,
        any: 0,
    };
    loop {
        let address = GuestPhysical(table + (linear.0 >> shift & 0x1ff) * 8);
        let entry = memory.read_u64(address).unwrap_or(u64::MAX);
        if entry & PRESENT == 0 {
            return Err(paging.fault(linear, access, 0));
        }
        rights.all &= entry;
        rights.any |= entry;
        if let Some(slot) = used.get_mut(count) {
            *slot = Used {
                address,
                value: entry,
            };
            count += 1;
        }
        let leaf = shift == 12 || (entry & LARGE != 0 && shift <= 30);
        if entry & LARGE != 0 && shift == 39 || entry & NO_EXECUTE != 0 && !paging.no_execute {
            return Err(paging.fault(linear, access, code::PRESENT | code::RESERVED));
        }
        if leaf {
            let within = (1u64 << shift) - 1;
            // In a large page bit 12 selects the memory type; the other bits below the frame are reserved.
            if shift != 12 && entry & FRAME & within & !(1 << 12) != 0 {
                return Err(paging.fault(linear, access, code::PRESENT | code::RESERVED));
            }
            finish(
                memory,
                paging,
                linear,
                access,
                rights,
                used.get(..count).unwrap_or(&[]),
            )?;
            return Ok(GuestPhysical(entry & FRAME & !within | linear.0 & within));
        }
        table = entry & FRAME;
        shift -= 9;
    }
}

fn walk_pae(
    memory: &impl GuestMemory,
    paging: &Paging,
    linear: GuestLinear,
    access: Access,
) -> Result<GuestPhysical, PageFault> {
    let linear = GuestLinear(linear.0 & 0xffff_ffff);
    let index = linear.0 >> 30;
    let pointer = match paging.pdptes {
        Some(entries) => entries.get(index as usize).copied().unwrap_or(0),
        None => memory
            .read_u64(GuestPhysical((paging.root & 0xffff_ffe0) + index * 8))
            .unwrap_or(0),
    };
    if pointer & PRESENT == 0 {
        return Err(paging.fault(linear, access, 0));
    }
    walk_wide(memory, paging, linear, access, pointer & FRAME, 21)
}

fn walk_two(
    memory: &impl GuestMemory,
    paging: &Paging,
    linear: GuestLinear,
    access: Access,
) -> Result<GuestPhysical, PageFault> {
    let linear = GuestLinear(linear.0 & 0xffff_ffff);
    let read = |address| {
        memory
            .read_u32(address)
            .map_or(u64::from(u32::MAX), u64::from)
    };
    let address = GuestPhysical((paging.root & 0xffff_f000) + (linear.0 >> 22) * 4);
    let directory = Used {
        address,
        value: read(address),
    };
    if directory.value & PRESENT == 0 {
        return Err(paging.fault(linear, access, 0));
    }
    if directory.value & LARGE != 0 && paging.large_pages {
        // PSE-36: bits 20 to 13 of the entry are bits 39 to 32 of the address; bit 21 is reserved.
        if directory.value & (1 << 21) != 0 {
            return Err(paging.fault(linear, access, code::PRESENT | code::RESERVED));
        }
        let rights = Rights {
            all: directory.value,
            any: 0,
        };
        finish(memory, paging, linear, access, rights, &[directory])?;
        let frame = directory.value & 0xffc0_0000 | (directory.value >> 13 & 0xff) << 32;
        return Ok(GuestPhysical(frame | linear.0 & 0x3f_ffff));
    }
    let address = GuestPhysical((directory.value & 0xffff_f000) + (linear.0 >> 12 & 0x3ff) * 4);
    let entry = Used {
        address,
        value: read(address),
    };
    if entry.value & PRESENT == 0 {
        return Err(paging.fault(linear, access, 0));
    }
    let rights = Rights {
        all: directory.value & entry.value,
        any: 0,
    };
    finish(memory, paging, linear, access, rights, &[directory, entry])?;
    Ok(GuestPhysical(entry.value & 0xffff_f000 | linear.0 & 0xfff))
}

/// Checks rights, and sets the flags that are missing.
#[inline]
fn finish(
    memory: &impl GuestMemory,
    paging: &Paging,
    linear: GuestLinear,
    access: Access,
    rights: Rights,
    used: &[Used],
) -> Result<(), PageFault> {
    if !paging.allows(rights, access) {
        return Err(paging.fault(linear, access, code::PRESENT));
    }
    let clean = access == Access::Write && used.last().is_some_and(|leaf| leaf.value & DIRTY == 0);
    if rights.all & ACCESSED == 0 || clean {
        set_flags(memory, access, used);
    }
    Ok(())
}

#[cold]
fn set_flags(memory: &impl GuestMemory, access: Access, used: &[Used]) {
    for (index, entry) in used.iter().enumerate() {
        let leaf = index + 1 == used.len();
        let wanted = ACCESSED
            | if leaf && access == Access::Write {
                DIRTY
            } else {
                0
            };
        if entry.value & wanted != wanted {
            // A table outside of RAM keeps no flags.
            let _ = memory.set_bits_u32(entry.address, wanted as u32);
        }
    }
}

#[cfg(test)]
#[path = "walk_test.rs"]
mod test;
