//! Where things go in guest memory at boot, and the proof that no two go to the same place.
//!
//! ```text
//! 0x0_1000  GDT
//! 0x0_2000  boot_params ("zero page")
//! 0x0_3000  hvm_start_info or multiboot information, with its tables
//! 0x0_4000  PML4, PDPT and four page directories: 4 GiB mapped one to one
//! 0x0_a000  stack, one page
//! 0x1_0000  command line, up to 64 KiB
//! 0x9_fc00  end of conventional memory
//! 0x10_0000 kernel (or where its header prefers), up to what its header says it uses while it unpacks itself
//! top       initrd: as high as the kernel takes it, below 3 GiB
//! ```

use super::error::LoadError;
use crate::memory::{GuestPhysical, MemoryLayout, PAGE_SIZE};
use core::fmt;
use core::ops::Range;

/// The boot GDT.
pub const GDT: GuestPhysical = GuestPhysical(0x1000);
/// Linux `boot_params`.
pub const ZERO_PAGE: GuestPhysical = GuestPhysical(0x2000);
/// `hvm_start_info` or multiboot information.
pub const START_INFO: GuestPhysical = GuestPhysical(0x3000);
/// Page tables: one PML4, one PDPT, four page directories.
pub const PAGE_TABLES: GuestPhysical = GuestPhysical(0x4000);
/// First address above the boot stack.
pub const STACK_TOP: GuestPhysical = GuestPhysical(0xb000);
/// The command line.
pub const COMMAND_LINE: GuestPhysical = GuestPhysical(0x1_0000);
/// Longest command line, its NUL included.
pub const COMMAND_LINE_SIZE: u64 = 0x1_0000;
/// End of conventional memory: the extended BIOS data area, video memory and ROMs follow.
pub const CONVENTIONAL_END: GuestPhysical = GuestPhysical(0x9_fc00);
/// Start of the memory above the first megabyte.
pub const EXTENDED_START: GuestPhysical = GuestPhysical(0x10_0000);

/// Something that takes guest memory at boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// GDT, page tables, boot information, stack.
    Tables,
    /// The command line.
    CommandLine,
    /// EBDA, video memory and ROM area.
    Firmware,
    /// The bzImage's setup header.
    SetupHeader,
    /// The kernel, with the memory it unpacks itself into.
    Kernel,
    /// The initial RAM disk, or a boot module.
    Initrd,
}

impl fmt::Display for Part {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Part::Tables => "the boot tables",
            Part::CommandLine => "the command line",
            Part::Firmware => "the firmware area",
            Part::SetupHeader => "the setup header",
            Part::Kernel => "the kernel",
            Part::Initrd => "the initrd",
        })
    }
}

/// The parts placed so far.
pub(super) struct Placement {
    layout: MemoryLayout,
    taken: [(Range<u64>, Part); Self::MOST],
    count: usize,
}

impl Placement {
    /// Fixed parts and as many of an image's as [`super::elf`] takes.
    const MOST: usize = 3 + Self::IMAGE_PARTS;
    /// Parts that an image and its modules may take.
    pub const IMAGE_PARTS: usize = 16;

    /// The fixed parts.
    pub fn new(layout: MemoryLayout) -> Result<Self, LoadError> {
        let mut placement = Self { layout, taken: [const { (0..0, Part::Tables) }; Self::MOST], count: 0 };
        placement.claim(GDT.0..STACK_TOP.0, Part::Tables)?;
        placement.claim(COMMAND_LINE.0..COMMAND_LINE.0 + COMMAND_LINE_SIZE, Part::CommandLine)?;
        placement.claim(CONVENTIONAL_END.0..EXTENDED_START.0, Part::Firmware)?;
        Ok(placement)
    }

    /// A placement without fixed parts, for images that bring up the machine by themselves.
    pub fn empty(layout: MemoryLayout) -> Self {
        Self { layout, taken: [const { (0..0, Part::Tables) }; Self::MOST], count: 0 }
    }

    /// Takes `range` for `part`.
    pub fn claim(&mut self, range: Range<u64>, part: Part) -> Result<(), LoadError> {
        if range.start > range.end {
            return Err(LoadError::BadAddress { part, address: range.start });
        }
        if range.end > self.layout.low() {
            return Err(LoadError::LittleMemory { part, needed: range.end, available: self.layout.low() });
        }
        for (other, first) in self.taken.iter().take(self.count) {
            if range.start < other.end && other.start < range.end {
                let address = range.start.max(other.start);
                return Err(LoadError::Overlap { first: *first, second: part, address });
            }
        }
        let slot = self.taken.get_mut(self.count).ok_or(LoadError::BadElf("too many loadable segments"))?;
        *slot = (range, part);
        self.count += 1;
        Ok(())
    }

    /// Takes `length` bytes as high as possible below `limit` (exclusive), page-aligned, for the initrd.
    pub fn claim_top(&mut self, length: u64, limit: u64) -> Result<GuestPhysical, LoadError> {
        let top = self.layout.low().min(limit);
        let needed = EXTENDED_START.0.saturating_add(length);
        let start = top.checked_sub(length).ok_or(LoadError::LittleMemory {
            part: Part::Initrd,
            needed: needed.max(top + 1),
            available: top,
        })? & !(PAGE_SIZE - 1);
        self.claim(start..start + length, Part::Initrd)?;
        Ok(GuestPhysical(start))
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn overlaps_name_both_parts() {
        let mut placement = Placement::new(MemoryLayout::new(64 << 20)).unwrap();
        placement.claim(0x100_0000..0x380_0000, Part::Kernel).unwrap();
        assert_eq!(placement.claim_top(0x1000, u64::MAX), Ok(GuestPhysical(0x3ff_f000)));
        let error = placement.claim(0x37f_f000..0x390_0000, Part::Initrd).unwrap_err();
        assert_eq!(error, LoadError::Overlap { first: Part::Kernel, second: Part::Initrd, address: 0x37f_f000 });
        assert!(error.to_string().starts_with("the kernel and the initrd both need guest memory at 0x37ff000"));
        assert!(matches!(placement.claim_top(0x500_0000, u64::MAX), Err(LoadError::LittleMemory { .. })));
        let error = placement.claim(0x3ff_0000..0x480_0000, Part::Kernel).unwrap_err();
        assert!(error.to_string().ends_with("give it at least 8 MiB more"), "{error}");
    }
}
