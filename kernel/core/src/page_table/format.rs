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
pub trait Format {
    /// Entries of the root table that belong to the space; those above belong to the kernel and are left alone.
    const ROOT_ENTRIES: u64;
    /// The entry for a page of a level.
    fn leaf(physical: HostPhysical, level: u32, attributes: Attributes) -> u64;
    /// The entry for a table.
    fn table(physical: HostPhysical) -> u64;
    /// Whether the entry is in use.
    fn is_present(entry: u64) -> bool;
    /// How the page of a leaf is mapped.
    fn attributes(entry: u64) -> Attributes;
}

/// Bit 7 makes an entry above the lowest level a leaf, in both formats.
pub(super) const LARGE: u64 = 1 << 7;

/// The processor's own format (SDM vol. 3, 4.5).
#[derive(Clone, Copy, Debug)]
pub struct Native;

impl Native {
    const PRESENT: u64 = 1 << 0;
    const WRITE: u64 = 1 << 1;
    const USER: u64 = 1 << 2;
    const WRITE_THROUGH: u64 = 1 << 3;
    const CACHE_DISABLE: u64 = 1 << 4;
    const NO_EXECUTE: u64 = 1 << 63;
}

impl Format for Native {
    const ROOT_ENTRIES: u64 = ENTRIES / 2;

    fn leaf(physical: HostPhysical, level: u32, attributes: Attributes) -> u64 {
        let mut entry = physical.0 | Self::PRESENT;
        if attributes.rights.contains(Rights::WRITE) {
            entry |= Self::WRITE;
        }
        if !attributes.rights.contains(Rights::EXECUTE) {
            entry |= Self::NO_EXECUTE;
        }
        if attributes.user {
            entry |= Self::USER;
        }
        if attributes.uncached {
            entry |= Self::WRITE_THROUGH | Self::CACHE_DISABLE;
        }
        if level > 0 {
            entry |= LARGE;
        }
        entry
    }

    fn table(physical: HostPhysical) -> u64 {
        physical.0 | Self::PRESENT | Self::WRITE | Self::USER
    }

    #[inline(always)]
    fn is_present(entry: u64) -> bool {
        entry & Self::PRESENT != 0
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

    fn leaf(physical: HostPhysical, level: u32, attributes: Attributes) -> u64 {
        let mut entry = physical.0;
        if attributes.rights.contains(Rights::READ) {
            entry |= Self::READ;
        }
        if attributes.rights.contains(Rights::WRITE) {
            // Writable without readable is a misconfiguration (SDM vol. 3, 29.3.3.1).
            entry |= Self::READ | Self::WRITE;
        }
        if attributes.rights.contains(Rights::EXECUTE) {
            // Executable without readable is an optional feature; none here.
            entry |= Self::READ | Self::EXECUTE;
        }
        entry |= if attributes.uncached { Self::IGNORE_PAT } else { Self::WRITE_BACK };
        if level > 0 {
            entry |= LARGE;
        }
        entry
    }

    fn table(physical: HostPhysical) -> u64 {
        physical.0 | Self::READ | Self::WRITE | Self::EXECUTE
    }

    #[inline(always)]
    fn is_present(entry: u64) -> bool {
        entry & (Self::READ | Self::WRITE | Self::EXECUTE) != 0
    }

    fn attributes(entry: u64) -> Attributes {
        let mut rights = Rights::empty();
        rights.set(Rights::READ, entry & Self::READ != 0);
        rights.set(Rights::WRITE, entry & Self::WRITE != 0);
        rights.set(Rights::EXECUTE, entry & Self::EXECUTE != 0);
        Attributes { rights, uncached: entry & Self::WRITE_BACK == 0, user: true }
    }
}
