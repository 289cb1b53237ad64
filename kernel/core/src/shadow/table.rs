//! Shadow tables: pages for the hardware's entries, for the guest's entries that they were made from and for links, and what
//! is to be known about the table.

use super::mode::{ADDRESS, Allows, LARGE, Layout, PRESENT, Paging};
use super::record::{Changed, learn};
use crate::phys::{HostPhysical, Ref, ShadowEntries};
use crate::sync::Ordering;
use core::cell::Cell;

/// A table: its address; 0 is none.
pub(super) type TableId = u64;

/// An entry: its table, and its index in the low bits.
pub(super) type EntryId = u64;

/// Entries of a table.
pub(super) const ENTRIES: u64 = 512;
/// Bytes of a [`Table`]: its address has room for an index.
pub(super) const TABLE_BYTES: u64 = ENTRIES;
/// Bytes of a large page in shadow tables.
pub const LARGE_BYTES: u64 = 2 << 20;

/// Software's bit of a shadow entry: it is in the active entry list.
pub(super) const LISTED: u64 = 1 << 9;

/// What a shadow table stands for, beside the guest table: level, part, what the entries above it allow, mode, features and
/// processor, packed. Tables of the same role and guest table are the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Role(u64);

impl Role {
    /// The guest may write to its table, and so may the engine for it.
    const WRITABLE: u64 = 1 << 62;

    /// The role of a table of this level under entries that allow so much. Bits 1, 2 and 63 are those of [`Allows`].
    pub fn new(processor: u32, level: u32, part: u64, allows: Allows, paging: &Paging) -> Self {
        let meaning = u64::from(paging.features.bits()) << 2 | paging.mode as u64;
        Self(allows.bits() | u64::from(level) << 3 | part << 5 | u64::from(processor) << 12 | meaning << 20)
    }

    /// The same for a guest table that may be written to, or not.
    #[must_use]
    pub const fn writable(self, writable: bool) -> Self {
        Self(self.0 | if writable { Self::WRITABLE } else { 0 })
    }

    /// Whether the guest table may be written to.
    pub const fn is_writable(self) -> bool {
        self.0 & Self::WRITABLE != 0
    }

    /// What the entries above allow.
    pub const fn allows(self) -> Allows {
        Allows::from_bits_truncate(self.0)
    }

    /// The level, 0 for the lowest.
    pub const fn level(self) -> u32 {
        self.0 as u32 >> 3 & 3
    }

    /// The processor that walks the table.
    pub const fn processor(self) -> u32 {
        self.0 as u32 >> 12 & 0xff
    }
}

/// What is known about a shadow table.
#[repr(C)]
pub struct Table {
    /// Shadow entries that point to the table.
    pub(super) references: Cell<u64>,
    /// The guest table's page, or 0: the table shows a part of a large guest page.
    pub(super) frame: Cell<u64>,
    pub(super) role: Cell<Role>,
    /// Where the guest's entries are in the page.
    pub(super) layout: Cell<Layout>,
    /// The page that the hardware walks.
    pub(super) entries_page: Cell<HostPhysical>,
    /// For each entry the guest's that it was made from.
    pub(super) sources_page: Cell<HostPhysical>,
    /// For an entry that maps a page writable: the next entry with the same hash of the page. For one that points to a table:
    /// the table.
    pub(super) links_page: Cell<HostPhysical>,
    /// The table of the same processor that was made before this one.
    pub(super) earlier: Cell<TableId>,
    /// The next table with the same hash of its guest table.
    pub(super) next_same: Cell<TableId>,
    /// The guest table may have changed; the table is in its processor's list of such tables.
    pub(super) stale: Cell<bool>,
    /// In the list of tables without references, from the least recently used on.
    pub(super) idle: Cell<bool>,
    /// It has been in use as a root.
    pub(super) used: Cell<bool>,
    pub(super) next_stale: Cell<TableId>,
    pub(super) older: Cell<TableId>,
    pub(super) newer: Cell<TableId>,
    /// Which entries are present.
    live: [Cell<u64>; 8],
}

const _: () = assert!(size_of::<Table>() as u64 <= TABLE_BYTES);

impl Ref<Table> {
    /// The table's name.
    pub(super) fn id(self) -> TableId {
        self.page().0
    }

    /// The name of an entry.
    pub(super) fn entry_id(self, index: u64) -> EntryId {
        self.id() | index
    }
}

/// The table of this name.
pub(super) fn table(id: TableId) -> Option<Ref<Table>> {
    (id != 0).then(|| HostPhysical(id).shadow_table())
}

/// The table and index of an entry.
pub(super) fn entry(id: EntryId) -> Option<(Ref<Table>, u64)> {
    Some((table(id & !(ENTRIES - 1))?, id & (ENTRIES - 1)))
}

impl Table {
    /// What the table stands for.
    pub(super) fn role(&self) -> Role {
        self.role.get()
    }

    /// The level, 0 for the lowest.
    pub(super) fn level(&self) -> u32 {
        self.role().level()
    }

    /// Where the guest's entry is for an entry, and of how many bytes.
    pub(super) fn guest_place(&self, index: u64) -> (HostPhysical, u64) {
        let layout = self.layout.get();
        (HostPhysical(self.frame.get() + layout.offset(index)), layout.width())
    }

    /// The entries as the hardware sees them.
    fn entries(&self) -> Ref<ShadowEntries> {
        self.entries_page.get().shadow_entries()
    }

    /// An entry, with the accessed and dirty bits that the hardware has set until now.
    pub(super) fn entry(&self, index: u64) -> u64 {
        self.entries().get(index as usize).map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// Changes an entry and answers what it was.
    #[inline(always)]
    pub(super) fn swap(&self, index: u64, value: u64) -> u64 {
        if let Some(live) = self.live.get((index / 64) as usize) {
            let bit = 1 << (index % 64);
            live.set(if value & PRESENT != 0 { live.get() | bit } else { live.get() & !bit });
        }
        self.entries().get(index as usize).map_or(0, |word| word.swap(value, Ordering::AcqRel))
    }

    /// Puts an entry into the active entry list, or takes it out; the hardware of another processor may be using it.
    pub(super) fn set_listed(&self, index: u64, listed: bool) {
        if let Some(word) = self.entries().get(index as usize) {
            if listed {
                word.fetch_or(LISTED, Ordering::AcqRel)
            } else {
                word.fetch_and(!LISTED, Ordering::AcqRel)
            };
        }
    }

    /// What an entry of the list says about its page.
    pub(super) fn learn(&self, index: u64, own: bool) -> Changed {
        self.entries().get(index as usize).map_or(Changed::Nobodys, |word| learn(word, own))
    }

    /// The guest's entry that an entry was made from.
    pub(super) fn source(&self, index: u64) -> u64 {
        self.sources_page.get().page_words().word(index)
    }

    /// Notes what an entry was made from.
    pub(super) fn set_source(&self, index: u64, value: u64) {
        self.sources_page.get().page_words().set_word(index, value);
    }

    /// The link of an entry.
    pub(super) fn link(&self, index: u64) -> u64 {
        self.links_page.get().page_words().word(index)
    }

    /// Sets the link of an entry.
    pub(super) fn set_link(&self, index: u64, link: u64) {
        self.links_page.get().page_words().set_word(index, link);
    }

    /// The pages that an entry maps: address of the first, and number.
    pub(super) fn pages(&self, entry: u64) -> (u64, u64) {
        match self.level() {
            0 => (entry & ADDRESS, 1),
            _ => (entry & ADDRESS & !(LARGE_BYTES - 1), ENTRIES),
        }
    }

    /// The table that an entry points to, if it does.
    pub(super) fn below(&self, index: u64) -> Option<Ref<Table>> {
        let is_link = self.level() > 0 && self.entry(index) & (PRESENT | LARGE) == PRESENT;
        if is_link { table(self.link(index)) } else { None }
    }

    /// Calls the function for the index of each entry that is present.
    pub(super) fn each_live(&self, mut visit: impl FnMut(u64)) {
        for (word, live) in self.live.iter().enumerate() {
            let mut bits = live.get();
            while bits != 0 {
                visit(word as u64 * 64 + u64::from(bits.trailing_zeros()));
                bits &= bits - 1;
            }
        }
    }
}
