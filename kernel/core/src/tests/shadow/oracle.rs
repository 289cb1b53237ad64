//! What the architecture allows: written from the manual, without the engine's help.

use super::memory::{Memory, translate};
use crate::shadow::{Access, Features, Mode, Paging};
use bulkhead_abi::{PAGE_SIZE, Rights};
use std::vec::Vec;

/// What a walk through the guest's tables ends with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// A page fault with this error code.
    Fault(u32),
    /// A page: guest-physical address of the 4 KiB.
    Page(u64),
    /// No memory where a table should be: guest-physical address of the entry.
    NoTable(u64),
}

/// A walk with the values of now.
pub struct FreshWalk {
    pub end: End,
    /// Host addresses of the entries that were read, with guest-physical addresses and the values they had.
    pub entries: Vec<(u64, u64, u64)>,
    /// Write, user, execute.
    pub rights: [bool; 3],
}

/// One entry: where it is and what remains to be translated.
#[derive(Clone, Copy)]
struct Level {
    /// Guest-physical address of the entry; nothing for a latched one.
    address: Option<u64>,
    /// Its value, if it is latched.
    latched: u64,
    /// Bits of the linear address below what the entry translates.
    shift: u32,
    /// The root, for which PS is reserved.
    is_root: bool,
}

/// What an entry says.
enum Says {
    Absent,
    Reserved,
    Table(u64),
    Page(u64),
}

fn first(paging: &Paging, linear: u64) -> Level {
    match paging.mode {
        Mode::FourLevel => Level {
            address: Some((paging.cr3 & 0xf_ffff_ffff_f000) + (linear >> 39) % 512 * 8),
            latched: 0,
            shift: 39,
            is_root: true,
        },
        Mode::Pae => {
            Level { address: None, latched: paging.pdptes[(linear >> 30) as usize % 4], shift: 30, is_root: true }
        }
        Mode::TwoLevel => Level {
            address: Some((paging.cr3 & 0xffff_f000) + (linear >> 22) % 1024 * 4),
            latched: 0,
            shift: 22,
            is_root: false,
        },
    }
}

fn says(paging: &Paging, level: Level, entry: u64) -> Says {
    if entry.is_multiple_of(2) {
        return Says::Absent;
    }
    let large = entry >> 7 & 1 == 1 && level.shift > 12;
    if paging.mode == Mode::TwoLevel {
        if large && paging.features.contains(Features::LARGE_PAGES) {
            let high = entry >> 13 & 0xff;
            let too_high = high >> (paging.physical_bits - 32) != 0;
            if too_high || entry >> 21 & 1 == 1 {
                return Says::Reserved;
            }
            return Says::Page(entry & 0xffc0_0000 | high << 32);
        }
        let address = entry & 0xffff_f000;
        return if level.shift == 12 { Says::Page(address) } else { Says::Table(address) };
    }
    let address = entry & 0xf_ffff_ffff_f000;
    if paging.mode == Mode::Pae && level.is_root {
        return Says::Table(address);
    }
    let mut bad = address >> paging.physical_bits != 0;
    bad |= paging.mode == Mode::Pae && entry >> 52 & 0x7ff != 0;
    bad |= entry >> 63 == 1 && !paging.features.contains(Features::NO_EXECUTE);
    if large {
        bad |= level.is_root || level.shift == 30 && !paging.features.contains(Features::HUGE_PAGES);
        bad |= entry & ((1 << level.shift) - 1) >> 13 << 13 != 0;
    }
    if bad {
        Says::Reserved
    } else if large || level.shift == 12 {
        Says::Page(address >> level.shift << level.shift)
    } else {
        Says::Table(address)
    }
}

fn next(paging: &Paging, level: Level, table: u64, linear: u64) -> Level {
    let (bits, width) = if paging.mode == Mode::TwoLevel { (10, 4) } else { (9, 8) };
    let shift = level.shift - bits;
    let index = linear >> shift & ((1 << bits) - 1);
    Level { address: Some(table + index * width), latched: 0, shift, is_root: false }
}

pub fn width(paging: &Paging) -> u64 {
    if paging.mode == Mode::TwoLevel { 4 } else { 8 }
}

fn and(rights: [bool; 3], entry: u64) -> [bool; 3] {
    [rights[0] && entry >> 1 & 1 == 1, rights[1] && entry >> 2 & 1 == 1, rights[2] && entry >> 63 == 0]
}

/// Whether the access is allowed to a page with these rights.
pub fn is_allowed(paging: &Paging, rights: [bool; 3], access: Access) -> bool {
    let [write, user, execute] = rights;
    let has = |feature| paging.features.contains(feature);
    match (access.contains(Access::USER), access.contains(Access::FETCH)) {
        (true, true) => user && execute,
        (true, false) => user && (write || !access.contains(Access::WRITE)),
        (false, true) => execute && !(user && has(Features::SMEP)),
        (false, false) => {
            let denied = user && has(Features::SMAP) && !access.contains(Access::ALIGNMENT_CHECK);
            !denied && (!access.contains(Access::WRITE) || write || !has(Features::WRITE_PROTECT))
        }
    }
}

fn error_code(paging: &Paging, access: Access, present: bool, reserved: bool) -> u32 {
    let no_execute = paging.mode != Mode::TwoLevel && paging.features.contains(Features::NO_EXECUTE);
    let fetch = access.contains(Access::FETCH) && (no_execute || paging.features.contains(Features::SMEP));
    u32::from(present)
        | u32::from(access.contains(Access::WRITE)) << 1
        | u32::from(access.contains(Access::USER)) << 2
        | u32::from(reserved) << 3
        | u32::from(fetch) << 4
}

/// Walks the guest's tables as they are.
pub fn walk(memory: &Memory, paging: &Paging, linear: u64, access: Access) -> FreshWalk {
    let mut entries = Vec::new();
    let mut rights = [true; 3];
    let mut level = first(paging, linear);
    let end = loop {
        let entry = match level.address {
            None => level.latched,
            Some(address) => {
                let Some(found) = translate(address) else {
                    break End::NoTable(address);
                };
                let value = memory.read(found.physical.0, width(paging));
                entries.push((found.physical.0, address, value));
                rights = and(rights, value);
                value
            }
        };
        match says(paging, level, entry) {
            Says::Absent => break End::Fault(error_code(paging, access, false, false)),
            Says::Reserved => break End::Fault(error_code(paging, access, true, true)),
            Says::Table(table) => level = next(paging, level, table, linear),
            Says::Page(_) if !is_allowed(paging, rights, access) => {
                break End::Fault(error_code(paging, access, true, false));
            }
            Says::Page(base) => break End::Page(base + (linear % (1 << level.shift)) / PAGE_SIZE * PAGE_SIZE),
        }
    };
    FreshWalk { end, entries, rights }
}

/// When the translations of a processor were flushed.
pub struct Flushes {
    pub all: u64,
    /// Addresses that were flushed since.
    pub addresses: Vec<(u64, u64)>,
}

impl Flushes {
    /// The last flush of the paging-structure caches: INVLPG empties them for all addresses (SDM vol. 3, 4.10.4.1).
    fn of_caches(&self) -> u64 {
        self.addresses.iter().map(|flush| flush.1).fold(self.all, u64::max)
    }

    /// The last flush of a translation that covers `1 << shift` bytes around this address.
    fn last(&self, linear: u64, shift: u32) -> u64 {
        let covering = self.addresses.iter().filter(|flush| flush.0 >> shift == linear >> shift);
        covering.map(|flush| flush.1).max().unwrap_or(0).max(self.all)
    }
}

/// Whether a TLB may translate so: by entries that were there after the last flush, with their accessed bits set, and the dirty
/// bit for a write.
pub fn may_translate(
    memory: &Memory,
    paging: &Paging,
    flushes: &Flushes,
    linear: u64,
    access: Access,
    host: u64,
) -> bool {
    let shifts: &[u32] = if paging.mode == Mode::TwoLevel { &[12, 22] } else { &[12, 21, 30] };
    shifts.iter().any(|&size| {
        let search = Search { memory, paging, linear, access, host, size, since: flushes.last(linear, size) };
        search.level(first(paging, linear), [true; 3])
    })
}

/// Whether an access may set bits in the entry at this address of the host: it maps the page for a walk whose upper entries may
/// be of the paging-structure caches.
pub fn may_mark(memory: &Memory, paging: &Paging, flushes: &Flushes, linear: u64, access: Access, at: u64) -> bool {
    let search = Search { memory, paging, linear, access, host: at, size: 0, since: flushes.of_caches() };
    search.reaches(first(paging, linear), [true; 3])
}

/// What the guest needs to be allowed by the host.
pub fn needed(access: Access) -> Rights {
    match access {
        access if access.contains(Access::WRITE) => Rights::WRITE,
        access if access.contains(Access::FETCH) => Rights::EXECUTE,
        _ => Rights::READ,
    }
}

struct Search<'a> {
    memory: &'a Memory,
    paging: &'a Paging,
    linear: u64,
    access: Access,
    host: u64,
    size: u32,
    since: u64,
}

impl Search<'_> {
    fn level(&self, level: Level, rights: [bool; 3]) -> bool {
        let Some(address) = level.address else {
            return self.entry(level, level.latched, rights);
        };
        let Some(found) = translate(address) else {
            return false;
        };
        let values = self.memory.values_since(found.physical.0, width(self.paging), self.since);
        values.iter().filter(|&&value| value >> 5 & 1 == 1).any(|&value| self.entry(level, value, and(rights, value)))
    }

    fn reaches(&self, level: Level, rights: [bool; 3]) -> bool {
        let (values, is_marked) = match level.address.map(translate) {
            Some(None) => return false,
            Some(Some(found)) => {
                let at = found.physical.0;
                let now = self.memory.read(at, width(self.paging));
                let allowed = is_allowed(self.paging, and(rights, now), self.access);
                let is_marked = at == self.host && allowed && matches!(says(self.paging, level, now), Says::Page(_));
                (self.memory.values_since(at, width(self.paging), self.since), is_marked)
            }
            // It has no accessed bit.
            None => (std::vec![level.latched | 1 << 5], false),
        };
        is_marked
            || values.iter().filter(|&&value| value >> 5 & 1 == 1).any(|&value| match says(self.paging, level, value) {
                Says::Table(table) => {
                    let rights = if level.address.is_some() { and(rights, value) } else { rights };
                    self.reaches(next(self.paging, level, table, self.linear), rights)
                }
                _ => false,
            })
    }

    fn entry(&self, level: Level, value: u64, rights: [bool; 3]) -> bool {
        match says(self.paging, level, value) {
            Says::Table(table) => self.level(next(self.paging, level, table, self.linear), rights),
            Says::Page(base) => {
                let page = base + (self.linear % (1 << level.shift)) / PAGE_SIZE * PAGE_SIZE;
                let needed = needed(self.access);
                level.shift == self.size
                    && (!self.access.contains(Access::WRITE) || value >> 6 & 1 == 1)
                    && is_allowed(self.paging, rights, self.access)
                    && translate(page)
                        .is_some_and(|found| found.physical.0 == self.host && found.attributes.rights.contains(needed))
            }
            Says::Absent | Says::Reserved => false,
        }
    }
}
