//! Boot protocols: puts a kernel image, its command line, its initrd and the tables it expects into guest memory, and says
//! in which state the first processor starts.
//!
//! Images come from files, so every length and address in them is checked; what a person can mend is a [`LoadError`] with words.

mod bzimage;
mod elf;
mod error;
mod firmware;
mod flat;
mod memory_map;
mod multiboot;
mod placement;
mod state;

pub use error::LoadError;
pub use firmware::load as load_firmware;
pub use flat::{FlatImage, FlatMode};
pub use memory_map::{MemoryKind, MemoryRange, memory_map};
pub use placement::{
    COMMAND_LINE, COMMAND_LINE_SIZE, CONVENTIONAL_END, EXTENDED_START, GDT, PAGE_TABLES, Part, STACK_TOP, START_INFO,
    ZERO_PAGE,
};
pub use state::{BootState, write_gdt, write_page_tables};

use crate::memory::{GuestMemory, GuestPhysical};

/// What to boot.
#[derive(Clone, Copy, Debug)]
pub struct BootImage<'a> {
    /// The kernel file.
    pub kernel: &'a [u8],
    /// The initial RAM disk (or the one boot module).
    pub initrd: Option<&'a [u8]>,
    /// The command line, without a NUL.
    pub command_line: &'a [u8],
    /// Where the ACPI root pointer is, for protocols that can tell.
    pub acpi_root: Option<GuestPhysical>,
}

/// A boot protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootProtocol {
    /// Linux bzImage, by its 64-bit or else its 32-bit entry.
    Linux,
    /// ELF with a PVH entry note, or else a Linux kernel by its boot protocol of 64 or 32 bits.
    Elf,
    /// Multiboot version 1.
    Multiboot,
}

impl BootProtocol {
    /// The protocol that an image's own magic numbers tell.
    pub fn detect(kernel: &[u8]) -> Option<Self> {
        if bzimage::is_bzimage(kernel) {
            Some(Self::Linux)
        } else if multiboot::is_multiboot(kernel) {
            Some(Self::Multiboot)
        } else if kernel.starts_with(b"\x7fELF") {
            Some(Self::Elf)
        } else {
            None
        }
    }
}

/// Loads `image` by the protocol that it speaks.
///
/// # Errors
/// What is wrong with the image, or how much memory it lacks.
pub fn load(memory: &impl GuestMemory, image: &BootImage<'_>) -> Result<BootState, LoadError> {
    match BootProtocol::detect(image.kernel).ok_or(LoadError::UnknownFormat)? {
        BootProtocol::Linux => bzimage::load(memory, image),
        BootProtocol::Elf => elf::load(memory, image),
        BootProtocol::Multiboot => multiboot::load(memory, image),
    }
}

/// Loads the image `flat` describes.
///
/// # Errors
/// It does not fit where it should go.
pub fn load_flat(memory: &impl GuestMemory, flat: &FlatImage<'_>) -> Result<BootState, LoadError> {
    flat::load(memory, flat)
}

/// Writes the command line and its NUL, having checked that the kernel takes one of that length.
fn write_command_line(memory: &impl GuestMemory, line: &[u8], limit: u64) -> Result<(), LoadError> {
    let length = line.len() as u64;
    let limit = limit.min(COMMAND_LINE_SIZE - 1);
    if length > limit {
        return Err(LoadError::LongCommandLine { length, limit });
    }
    if line.contains(&0) {
        return Err(LoadError::CommandLineNul);
    }
    memory.write(COMMAND_LINE, line)?;
    memory.write(COMMAND_LINE.offset(length), &[0])?;
    Ok(())
}
