//! Formats of page-table entries: the processor's own, and extended page tables.

use super::ENTRIES;
use crate::phys::HostPhysical;
use bulkhead_abi::Rights;

/// How a page is mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attributes {
    /// READ, WRITE and EXECUTE; at least one. WRITE implies READ, and so does EXECUTE in the processor's own format.
    pub rights: Rights,
    /// Uncached memory type instead of write-back.
    pub uncached: bool,
    /// Accessible to programs, in the processor's own format.
    pub user: bool,
}

/// A format of table entries.
pub trait Format: Copy {
    /// Entries of the root table that belong to the space; those above belong to the kernel and are left alone.
    const ROOT_ENTRIES: u64;
    /// Flags one of which at least is set in an entry that is in use.
    const PRESENT: u64;
    /// Flags of the entry for a table.
    const TABLE: u64;
    /// Flags of the entry for a page.
    fn flags(attributes: Attributes) -> u64;
    /// How the page of a leaf is mapped.
    fn attributes(entry: u64) -> Attributes;

    /// The entry for a page of a level.
    fn leaf(physical: HostPhysical, level: u32, attributes: Attributes) -> u64 {
        physical.0 | Self::flags(attributes) | when(level > 0, LARGE)
    }

    /// The entry for a table.
    fn table(physical: HostPhysical) -> u64 {
        physical.0 | Self::TABLE
    }

    /// Whether the entry is in use.
    fn is_present(entry: u64) -> bool {
        entry & Self::PRESENT != 0
    }
}

const fn when(condition: bool, flags: u64) -> u64 {
    if condition { flags } else { 0 }
}

/// Bit 7 makes an entry above the lowest level a leaf, in both formats.
pub(super) const LARGE: u64 = 1 << 7;

/// The processor's own format (SDM vol. 3, 4.5).
#[derive(Clone, Copy, Debug)]
pub struct Native;

impl Native {
    const WRITE: u64 = 1 << 1;
    const USER: u64 = 1 << 2;
    const WRITE_THROUGH: u64 = 1 << 3;
    const CACHE_DISABLE: u64 = 1 << 4;
    const NO_EXECUTE: u64 = 1 << 63;
}

impl Format for Native {
    const ROOT_ENTRIES: u64 = ENTRIES / 2;
    const PRESENT: u64 = 1 << 0;
    const TABLE: u64 = Self::PRESENT | Self::WRITE | Self::USER;

    fn flags(attributes: Attributes) -> u64 {
        Self::PRESENT
            | when(attributes.rights.contains(Rights::WRITE), Self::WRITE)
            | when(!attributes.rights.contains(Rights::EXECUTE), Self::NO_EXECUTE)
            | when(attributes.user, Self::USER)
            | when(attributes.uncached, Self::WRITE_THROUGH | Self::CACHE_DISABLE)
    }

    fn attributes(entry: u64) -> Attributes {
        let mut rights = Rights::READ;
        rights.set(Rights::WRITE, entry & Self::WRITE != 0);
        rights.set(Rights::EXECUTE, entry & Self::NO_EXECUTE == 0);
        Attributes { rights, uncached: entry & Self::CACHE_DISABLE != 0, user: entry & Self::USER != 0 }
    }
}

/// Extended page tables (SDM vol. 3, 29.3.2).
#[derive(Clone, Copy, Debug)]
pub struct Ept;

impl Ept {
    const READ: u64 = 1 << 0;
    const WRITE: u64 = 1 << 1;
    const EXECUTE: u64 = 1 << 2;
    const WRITE_BACK: u64 = 6 << 3;
    /// The guest's PAT has no say over device registers.
    const IGNORE_PAT: u64 = 1 << 6;
}

impl Format for Ept {
    const ROOT_ENTRIES: u64 = ENTRIES;
    const PRESENT: u64 = Self::TABLE;
    const TABLE: u64 = Self::READ | Self::WRITE | Self::EXECUTE;

    fn flags(attributes: Attributes) -> u64 {
        // Writable without readable is a misconfiguration (SDM vol. 3, 29.3.3.1); executable without readable is an optional
        // feature, and none here.
        when(attributes.rights.contains(Rights::READ), Self::READ)
            | when(attributes.rights.contains(Rights::WRITE), Self::READ | Self::WRITE)
            | when(attributes.rights.contains(Rights::EXECUTE), Self::READ | Self::EXECUTE)
            | if attributes.uncached { Self::IGNORE_PAT } else { Self::WRITE_BACK }
    }

    fn attributes(entry: u64) -> Attributes {
        let mut rights = Rights::empty();
        rights.set(Rights::READ, entry & Self::READ != 0);
        rights.set(Rights::WRITE, entry & Self::WRITE != 0);
        rights.set(Rights::EXECUTE, entry & Self::EXECUTE != 0);
        Attributes { rights, uncached: entry & Self::WRITE_BACK == 0, user: true }
    }
}
