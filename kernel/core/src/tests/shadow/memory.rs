//! The guest's memory, with the history of its page tables.

use super::super::random::Random;
use crate::page_table::{Attributes, PageSize, Translation};
use crate::phys::HostPhysical;
use bulkhead_abi::{PAGE_SIZE, Rights};
use std::vec::Vec;

/// Frames that are used as guest tables.
pub const TABLES: usize = 12;
/// Words of a table that are ever anything but 0. With them, entries of 8 bytes and both halves of such, the first and the last
/// of a table, and some in every quarter of a two-level page directory are used.
pub const WORDS: [u64; 6] = [0, 1, 2, 150, 256, 511];
/// Where the tables are: in small pages, in a large page, and in a region whose pages are not in order.
pub const TABLE_PAGES: [u64; TABLES] = [0, 1, 2, 3, 4, 5, 6, 7, 512, 513, 514, 1024];

/// Pages of the first region, whose last ones cannot be written, and cannot be executed.
const SMALL_PAGES: u64 = 20;
const READ_ONLY: u64 = SMALL_PAGES - 1;
const NOT_EXECUTABLE: u64 = SMALL_PAGES - 2;
/// A table frame that is mapped at a second address.
const ALIAS: u64 = SMALL_PAGES - 3;
/// Where the regions are in the host's memory: far from everything that the tests allocate.
const SMALL_HOST: u64 = 0x40_0000_0000;
const LARGE_HOST: u64 = 0x50_0000_0000;
const MIXED_HOST: u64 = 0x60_0000_0000;

/// A value and since when it is there.
type Record = (u64, u64);

/// Words of the tables, and what they were.
pub struct Memory {
    history: Vec<Vec<Record>>,
    /// Counts operations.
    pub now: u64,
}

/// What is at a guest-physical address.
pub fn translate(address: u64) -> Option<Translation> {
    let page = address / PAGE_SIZE;
    let offset = address % PAGE_SIZE;
    let all = Rights::READ | Rights::WRITE | Rights::EXECUTE;
    let (physical, rights, size) = match page {
        ALIAS => (SMALL_HOST + 5 * 7 % SMALL_PAGES * PAGE_SIZE, all, PageSize::Small),
        READ_ONLY => (SMALL_HOST + page * 7 % SMALL_PAGES * PAGE_SIZE, Rights::READ | Rights::EXECUTE, PageSize::Small),
        NOT_EXECUTABLE => {
            (SMALL_HOST + page * 7 % SMALL_PAGES * PAGE_SIZE, Rights::READ | Rights::WRITE, PageSize::Small)
        }
        0..SMALL_PAGES => (SMALL_HOST + page * 7 % SMALL_PAGES * PAGE_SIZE, all, PageSize::Small),
        512..1024 => (LARGE_HOST + (page - 512) * PAGE_SIZE, all, PageSize::Large),
        1024..1536 => (MIXED_HOST + (1535 - page) * PAGE_SIZE, all, PageSize::Small),
        _ => return None,
    };
    let attributes = Attributes { rights, uncached: false, user: true };
    Some(Translation { physical: HostPhysical(physical + offset), attributes, size })
}

/// The number of the table that is in this page of the host.
pub fn table_of(host: u64) -> Option<usize> {
    let page = host & !(PAGE_SIZE - 1);
    TABLE_PAGES.iter().position(|&table| translate(table * PAGE_SIZE).is_some_and(|found| found.physical.0 == page))
}

impl Memory {
    pub fn new() -> Self {
        Self { history: std::vec![std::vec![(0, 0)]; TABLES * WORDS.len()], now: 0 }
    }

    fn place(host: u64) -> Option<usize> {
        let table = match host {
            SMALL_HOST.. if host < SMALL_HOST + SMALL_PAGES * PAGE_SIZE => {
                // 3 is the inverse of 7 for 20 pages.
                let page = (host - SMALL_HOST) / PAGE_SIZE * 3 % SMALL_PAGES;
                (page < 8).then_some(page as usize)
            }
            LARGE_HOST.. if host < LARGE_HOST + 3 * PAGE_SIZE => Some(8 + ((host - LARGE_HOST) / PAGE_SIZE) as usize),
            _ if host & !(PAGE_SIZE - 1) == MIXED_HOST + 511 * PAGE_SIZE => Some(11),
            _ => None,
        }?;
        let word = WORDS.iter().position(|&word| word == host % PAGE_SIZE / 8)?;
        Some(table * WORDS.len() + word)
    }

    /// The word that contains this address, now.
    fn word(&self, host: u64) -> u64 {
        Self::place(host).and_then(|place| self.history[place].last()).map_or(0, |record| record.1)
    }

    fn part(word: u64, host: u64, width: u64) -> u64 {
        if width == 8 { word } else { word >> (host % 8 * 8) & 0xffff_ffff }
    }

    /// The entry of 4 or 8 bytes at an address of the host.
    pub fn read(&self, host: u64, width: u64) -> u64 {
        Self::part(self.word(host), host, width)
    }

    /// Writes an entry, if it is one that can be written.
    pub fn write(&mut self, host: u64, width: u64, value: u64) {
        let Some(place) = Self::place(host) else {
            return;
        };
        let old = self.word(host);
        let shift = host % 8 * 8;
        let new = if width == 8 { value } else { old & !(0xffff_ffff << shift) | value << shift };
        self.history[place].push((self.now, new));
    }

    /// The values that an entry had at some time from `since` on.
    pub fn values_since(&self, host: u64, width: u64, since: u64) -> Vec<u64> {
        let Some(place) = Self::place(host) else {
            return std::vec![0];
        };
        let records = &self.history[place];
        let first = records.iter().rposition(|record| record.0 <= since).unwrap_or(0);
        let mut values: Vec<u64> = records[first..].iter().map(|record| Self::part(record.1, host, width)).collect();
        values.sort_unstable();
        values.dedup();
        values
    }

    /// Forgets what was before `since`.
    pub fn prune(&mut self, since: u64) {
        for records in &mut self.history {
            let first = records.iter().rposition(|record| record.0 <= since).unwrap_or(0);
            records.drain(..first);
        }
    }

    /// Tables that map one another, for paging with entries of this width.
    pub fn reset(&mut self, random: &mut Random, width: u64) {
        let now = self.now;
        for records in &mut self.history {
            *records = std::vec![(now, 0)];
        }
        let mut set = |table: usize, index: u64, value: u64| {
            let host = translate(TABLE_PAGES[table] * PAGE_SIZE).map_or(0, |found| found.physical.0);
            self.write(host + index * width, width, value);
        };
        // A table in the large region is found by the large page as well as by its own entries.
        let inside = random.one_in(2);
        let mut page = |number: u64| (number * PAGE_SIZE) | [0x7, 0x67, 0x27, 0x63][random.below(4) as usize];
        let large = 1 << 7;
        if width == 4 {
            for directory in [0, 1] {
                set(directory, 0, page(2));
                set(directory, 1, page(if inside { 512 } else { 3 }));
                set(directory, 300, page(0) | large);
                set(directory, 1023, page(1024) | large);
            }
            for (index, number) in [(0, 0), (1, 1), (512, 2), (1023, 3)] {
                set(2, index, page(number));
                set(3, index, page(number + 4));
                set(8, index, page(number + 4));
            }
            return;
        }
        set(0, 0, page(1));
        set(4, 0, page(1));
        set(0, 511, page(5));
        set(1, 0, page(2));
        set(1, 1, page(0) | large);
        set(2, 0, page(3));
        set(2, 1, page(if inside { 512 } else { 6 }));
        set(2, 2, page(512) | large);
        set(2, 511, page(1024) | large);
        for (index, number) in [(0, 0), (1, 1), (2, 2), (511, 3)] {
            set(3, index, page(number));
            set(6, index, page(number + 4));
            set(8, index, page(number + 4));
        }
    }
}

/// A random entry.
pub fn random_entry(random: &mut Random, width: u64) -> u64 {
    let page = match random.below(8) {
        0..4 => TABLE_PAGES[random.below(TABLES as u64) as usize],
        4 => random.below(SMALL_PAGES + 1),
        5 => 512 + random.below(2) * 511,
        6 => 1024 + random.below(2) * 511,
        _ => 2000,
    };
    let mut entry = page * PAGE_SIZE;
    let large = random.one_in(5);
    if large {
        entry = ([0, 512, 1024, 1536][random.below(4) as usize] * PAGE_SIZE) | (1 << 7);
    }
    for (bit, out_of) in [(0, 12), (1, 4), (2, 4), (5, 3), (6, 2)] {
        if !random.one_in(out_of) {
            entry |= 1 << bit;
        }
    }
    for (bit, out_of) in [(3, 8), (4, 8), (7, 30), (9, 16), (12, 30), (21, 60), (63, 8), (50, 60), (55, 30)] {
        if random.one_in(out_of) {
            entry |= 1 << bit;
        }
    }
    if width == 4 { entry & 0xffff_ffff } else { entry }
}
