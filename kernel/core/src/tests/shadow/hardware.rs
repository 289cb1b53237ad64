//! A guest processor's hardware: it walks shadow tables, sets their accessed and dirty bits, and has a TLB.

use crate::phys::{HostPhysical, ShadowEntries};
use crate::shadow::{Access, Features};
use core::sync::atomic::Ordering;
use std::vec::Vec;

const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
/// Translations that the TLB holds.
const TRANSLATIONS: usize = 12;

#[derive(Clone, Copy, Debug)]
pub struct Translated {
    pub page: u64,
    pub host: u64,
    /// Write, user, execute.
    rights: [bool; 3],
    dirty: bool,
}

/// The hardware of one processor.
#[derive(Default)]
pub struct Hardware {
    pub root: HostPhysical,
    /// With PAE paging, the upper entries.
    pub upper: Option<[u64; 4]>,
    pub features: Features,
    pub tlb: Vec<Translated>,
    turn: usize,
}

fn entries(page: u64) -> crate::phys::Ref<ShadowEntries> {
    HostPhysical(page).shadow_entries()
}

impl Hardware {
    /// The host page, or the error code of a page fault.
    pub fn access(&mut self, linear: u64, access: Access, keep: bool) -> Result<u64, u32> {
        let page = linear >> 12;
        if let Some(found) = self.tlb.iter().find(|found| found.page == page).copied() {
            if !self.allows(found.rights, access) {
                // A fault ends the translation.
                self.tlb.retain(|found| found.page != page);
                return Err(Self::error(access, true));
            }
            if !access.contains(Access::WRITE) || found.dirty {
                return Ok(found.host);
            }
            self.tlb.retain(|found| found.page != page);
        }
        let translated = self.walk(linear, Some(access)).ok_or_else(|| Self::error(access, false))?;
        if !self.allows(translated.rights, access) {
            return Err(Self::error(access, true));
        }
        if keep {
            self.remember(translated);
        }
        Ok(translated.host)
    }

    /// Loads a translation that nothing has asked for.
    pub fn speculate(&mut self, linear: u64) {
        if self.tlb.iter().all(|found| found.page != linear >> 12)
            && let Some(translated) = self.walk(linear, None)
        {
            self.remember(translated);
        }
    }

    fn remember(&mut self, translated: Translated) {
        if self.tlb.len() < TRANSLATIONS {
            self.tlb.push(translated);
        } else {
            self.turn = (self.turn + 1) % TRANSLATIONS;
            self.tlb[self.turn] = translated;
        }
    }

    fn error(access: Access, protection: bool) -> u32 {
        u32::from(protection)
            | u32::from(access.contains(Access::WRITE)) << 1
            | u32::from(access.contains(Access::USER)) << 2
            | u32::from(access.contains(Access::FETCH)) << 4
    }

    /// CR0.WP and EFER.NXE are set.
    fn allows(&self, [write, user, execute]: [bool; 3], access: Access) -> bool {
        if access.contains(Access::USER) && !user
            || access.contains(Access::WRITE) && !write
            || access.contains(Access::FETCH) && !execute
        {
            return false;
        }
        let smep = access.contains(Access::FETCH) && self.features.contains(Features::SMEP);
        let smap = !access.contains(Access::FETCH)
            && !access.contains(Access::ALIGNMENT_CHECK)
            && self.features.contains(Features::SMAP);
        access.contains(Access::USER) || !user || !smep && !smap
    }

    /// Walks the tables, and sets bits if the access is allowed.
    fn walk(&self, linear: u64, access: Option<Access>) -> Option<Translated> {
        let mut rights = [true; 3];
        let (mut table, mut level) = (self.root.0, 3);
        if let Some(upper) = self.upper {
            let entry = upper[(linear >> 30) as usize % 4];
            assert_eq!(entry & !(ADDRESS | 1), 0, "a bit of an upper entry is reserved");
            if entry & 1 == 0 {
                return None;
            }
            (table, level) = (entry & ADDRESS, 1);
        }
        loop {
            let place = &entries(table)[(linear >> (12 + 9 * level)) as usize % 512];
            let entry = place.load(Ordering::Relaxed);
            if entry & 1 == 0 {
                return None;
            }
            rights = [rights[0] && entry & 2 != 0, rights[1] && entry & 4 != 0, rights[2] && entry >> 63 == 0];
            if level > 0 && entry & 1 << 7 == 0 {
                place.fetch_or(ACCESSED, Ordering::Relaxed);
                (table, level) = (entry & ADDRESS, level - 1);
                continue;
            }
            let size = 4096u64 << (9 * level);
            let pat = if level > 0 { 1 << 12 } else { 0 };
            assert_eq!(entry & ADDRESS & (size - 1) & !pat, 0, "a reserved bit of an entry is set");
            let host = (entry & ADDRESS & !(size - 1)) | (linear & (size - 1) & !0xfff);
            let write = access.is_some_and(|access| access.contains(Access::WRITE));
            if access.is_none_or(|access| self.allows(rights, access)) {
                place.fetch_or(if write { ACCESSED | DIRTY } else { ACCESSED }, Ordering::Relaxed);
            }
            let dirty = place.load(Ordering::Relaxed) & DIRTY != 0;
            return Some(Translated { page: linear >> 12, host, rights, dirty });
        }
    }
}
