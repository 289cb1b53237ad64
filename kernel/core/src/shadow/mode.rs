//! The guest's paging modes (SDM vol. 3, chapter 4): where entries are, what they mean, what they allow.
//!
//! Shadow tables have 512 entries of 8 bytes at every level, whatever the guest's have. Of a guest table with 1,024 entries of
//! 4 bytes, a shadow table shows one part: a quarter of a page directory (each entry twice, as two pages of 2 MiB), or half of
//! a page table.

use bitflags::bitflags;

/// Entry: present.
pub const PRESENT: u64 = 1 << 0;
/// Entry: writable.
pub const WRITE: u64 = 1 << 1;
/// Entry: accessible to programs.
pub const USER: u64 = 1 << 2;
/// Entry: accessed.
pub const ACCESSED: u64 = 1 << 5;
/// Entry: dirty.
pub const DIRTY: u64 = 1 << 6;
/// Entry above the lowest level: maps a page.
pub const LARGE: u64 = 1 << 7;
/// Entry: not executable.
pub const NO_EXECUTE: u64 = 1 << 63;
/// Entry: PWT and PCD.
pub const CACHING: u64 = 1 << 3 | 1 << 4;
/// PAT bit of an entry for 4 KiB, and of one for a larger page.
pub const PAT: [u64; 2] = [1 << 7, 1 << 12];
/// Where an entry holds an address.
pub const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

bitflags! {
    /// What changes the meaning of entries beside the mode.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Features: u32 {
        /// CR4.PSE, for two-level paging.
        const LARGE_PAGES = 1 << 0;
        /// EFER.NXE.
        const NO_EXECUTE = 1 << 1;
        /// CR0.WP.
        const WRITE_PROTECT = 1 << 2;
        /// CR4.SMEP.
        const SMEP = 1 << 3;
        /// CR4.SMAP.
        const SMAP = 1 << 4;
        /// The processor has pages of 1 GiB.
        const HUGE_PAGES = 1 << 5;
    }
}

/// Paging modes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// 32-bit: entries of 4 bytes.
    #[default]
    TwoLevel,
    /// PAE: the four upper entries are read when CR3 is loaded.
    Pae,
    /// 4-level.
    FourLevel,
}

impl Mode {
    /// Whether the entries of this level are not read from memory at each walk.
    pub const fn is_latched(self, level: u32) -> bool {
        level == 2 && !matches!(self, Self::FourLevel)
    }

    /// Bytes of an entry.
    pub const fn width(self) -> u64 {
        self.layout(0, 0).width()
    }

    /// Where the guest's entries are for those of a shadow table that shows this part of the guest's.
    pub const fn layout(self, level: u32, part: u64) -> Layout {
        match self {
            Self::TwoLevel if level == 1 => Layout { first: part * 1024, scale: 1 },
            Self::TwoLevel => Layout { first: part * 2048, scale: 2 },
            _ => Layout { first: 0, scale: 3 },
        }
    }

    /// The part of the lower table that belongs under this entry of a shadow table.
    pub const fn part_below(self, level: u32, index: u64) -> u64 {
        match self {
            Self::TwoLevel if level == 2 => index,
            Self::TwoLevel => index & 1,
            _ => 0,
        }
    }
}

/// Where the entries of a guest table are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Layout {
    /// Byte at which they begin in the page.
    first: u64,
    /// How far the index of a shadow entry is shifted.
    scale: u32,
}

impl Layout {
    /// Byte at which the entry is in the page.
    pub const fn offset(self, index: u64) -> u64 {
        self.first + (index << (self.scale & 3) & !3)
    }

    /// Bytes of an entry.
    pub const fn width(self) -> u64 {
        if self.scale == 3 { 8 } else { 4 }
    }
}

/// The paging state of a guest processor, with CR0.PG set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Paging {
    /// The mode.
    pub mode: Mode,
    /// What changes the meaning of entries.
    pub features: Features,
    /// CR3.
    pub cr3: u64,
    /// The upper entries, as read at the last load of CR3, for PAE.
    pub pdptes: [u64; 4],
    /// Width of guest-physical addresses.
    pub physical_bits: u32,
}

/// What an entry of a guest table means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meaning {
    /// Nothing.
    Absent,
    /// A bit is set that must not be.
    Reserved,
    /// The table at this guest-physical address.
    Table(u64),
    /// The page at this guest-physical address, of this many bytes.
    Page(u64, u64),
}

impl Paging {
    /// Level of the root of shadow tables for this mode, 0 for the lowest.
    pub const fn top(&self) -> u32 {
        match self.mode {
            Mode::FourLevel => 3,
            _ => 2,
        }
    }

    /// Guest-physical address of the root: CR3 without its flags.
    pub const fn root(&self) -> u64 {
        match self.mode {
            Mode::FourLevel => self.cr3 & ADDRESS,
            Mode::TwoLevel => self.cr3 & 0xffff_f000,
            Mode::Pae => self.cr3 & 0xffff_ffe0,
        }
    }

    /// An upper entry of a mode that does not read them from memory at each walk; two-level paging has none, so these stand for
    /// its page directory.
    pub fn latched(&self, level: u32, index: u64) -> Option<u64> {
        match self.mode {
            mode if !mode.is_latched(level) => None,
            Mode::TwoLevel => Some(self.root() | PRESENT),
            _ => Some(self.pdptes.get(index as usize).copied().unwrap_or(0)),
        }
    }

    /// What an entry of a level means.
    #[inline(always)]
    pub fn meaning(&self, level: u32, entry: u64) -> Meaning {
        if entry & PRESENT == 0 {
            return Meaning::Absent;
        }
        if self.mode == Mode::TwoLevel {
            return self.meaning_two_level(level, entry);
        }
        if level == 2 && self.mode == Mode::Pae {
            // Reserved bits were checked when they were loaded.
            return Meaning::Table(entry & ADDRESS);
        }
        // With PAE, bits 62 to 52 are reserved as well; in 4-level paging they are the guest's.
        let above = if self.mode == Mode::Pae { !NO_EXECUTE } else { ADDRESS };
        let mut reserved = above & !((1 << self.physical_bits) - 1);
        if !self.features.contains(Features::NO_EXECUTE) {
            reserved |= NO_EXECUTE;
        }
        let large = level > 0 && entry & LARGE != 0;
        let size = 4096u64 << (9 * level);
        if large {
            let possible = level == 1 || level == 2 && self.features.contains(Features::HUGE_PAGES);
            reserved |= if possible { (size - 1) & !0x1fff } else { LARGE };
        }
        match entry & reserved {
            0 if large || level == 0 => Meaning::Page(entry & ADDRESS & !(size - 1), size),
            0 => Meaning::Table(entry & ADDRESS),
            _ => Meaning::Reserved,
        }
    }

    fn meaning_two_level(&self, level: u32, entry: u64) -> Meaning {
        if level == 1 && entry & LARGE != 0 && self.features.contains(Features::LARGE_PAGES) {
            // Bits 20 to 13 are bits 39 to 32 of the address (SDM vol. 3, 4.3).
            let page = entry & 0xffc0_0000 | (entry >> 13 & 0xff) << 32;
            let reserved = entry & 1 << 21 != 0 || page >> self.physical_bits != 0;
            return if reserved { Meaning::Reserved } else { Meaning::Page(page, 4 << 20) };
        }
        let address = entry & 0xffff_f000;
        if level == 0 { Meaning::Page(address, 4096) } else { Meaning::Table(address) }
    }
}

bitflags! {
    /// What the entries of a walk allow together, by bits that entries have.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Allows: u64 {
        /// Writes.
        const WRITE = WRITE;
        /// Programs.
        const USER = USER;
        /// Instruction fetches, which entries forbid by this bit.
        const EXECUTE = NO_EXECUTE;
    }
}

impl Allows {
    /// And this entry besides.
    #[must_use]
    pub const fn and(self, entry: u64) -> Self {
        Self::from_bits_truncate(self.bits() & (entry ^ NO_EXECUTE))
    }
}

bitflags! {
    /// An access that the hardware refused, or why the guest's page fault is delivered: error code of page faults (SDM vol. 3,
    /// 4.7), and EFLAGS.AC.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Access: u32 {
        /// There is a translation, which does not allow the access.
        const PROTECTION = 1 << 0;
        /// A write.
        const WRITE = 1 << 1;
        /// A program's.
        const USER = 1 << 2;
        /// A reserved bit is set.
        const RESERVED = 1 << 3;
        /// An instruction fetch.
        const FETCH = 1 << 4;
        /// EFLAGS.AC: the system may touch programs' pages in spite of SMAP.
        const ALIGNMENT_CHECK = 1 << 18;
    }
}

impl Access {
    /// Whether a page with these rights may be accessed so (SDM vol. 3, 4.6).
    #[inline(always)]
    pub fn allowed(self, by: Allows, features: Features) -> bool {
        let of_program = self.contains(Self::USER);
        let [write, user, execute] = [Allows::WRITE, Allows::USER, Allows::EXECUTE].map(|right| by.contains(right));
        if self.contains(Self::FETCH) {
            let smep = features.contains(Features::SMEP) && user && !of_program;
            return execute && !smep && (user || !of_program);
        }
        let refused = self.contains(Self::WRITE) && !write;
        if of_program {
            return user && !refused;
        }
        let smap = features.contains(Features::SMAP) && user && !self.contains(Self::ALIGNMENT_CHECK);
        !(smap || refused && features.contains(Features::WRITE_PROTECT))
    }

    /// The error code of the guest's page fault, for [`Access::PROTECTION`], [`Access::RESERVED`] or neither.
    pub const fn error(self, paging: &Paging, cause: Self) -> u32 {
        let no_execute = paging.features.contains(Features::NO_EXECUTE) && !matches!(paging.mode, Mode::TwoLevel);
        let mut told = Self::WRITE.union(Self::USER);
        if no_execute || paging.features.contains(Features::SMEP) {
            told = told.union(Self::FETCH);
        }
        self.intersection(told).union(cause).bits()
    }
}

/// Index of an address in a shadow table of a level.
pub const fn index(level: u32, linear: u64) -> u64 {
    linear >> (12 + 9 * level) & 511
}
