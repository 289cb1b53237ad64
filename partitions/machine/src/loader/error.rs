//! Why an image cannot be loaded, in words that say what to change.

use super::placement::Part;
use crate::memory::OutOfGuest;
use thiserror::Error;

/// Why a guest image cannot be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LoadError {
    /// The file ends inside something that its header announces.
    #[error("the kernel image is cut short: {part} ends at byte {needed:#x} and the file has {length:#x}")]
    Truncated {
        /// What is incomplete.
        part: Part,
        /// Bytes that the file must have.
        needed: u64,
        /// Bytes that it has.
        length: u64,
    },
    /// None of the known formats.
    #[error("the kernel image is neither a bzImage, nor an ELF vmlinux, nor a multiboot kernel")]
    UnknownFormat,
    /// A bzImage of a boot protocol too old to say how much memory it needs.
    #[error("the bzImage speaks boot protocol {}.{:02}; 2.10 or newer is needed", .0 >> 8, .0 & 0xff)]
    OldBootProtocol(u16),
    /// A bzImage header that contradicts itself.
    #[error("the bzImage header is malformed: {0}")]
    BadHeader(&'static str),
    /// An ELF file that cannot be a kernel.
    #[error("the ELF image is malformed or not for x86: {0}")]
    BadElf(&'static str),
    /// A multiboot header asks for something that this machine does not give.
    #[error("the multiboot kernel requires flags {0:#x}, which are not supported")]
    MultibootFlags(u32),
    /// The command line is longer than the kernel reads.
    #[error("the command line has {length} bytes and the kernel takes {limit}")]
    LongCommandLine {
        /// Bytes of the command line.
        length: u64,
        /// Bytes that the kernel, or this loader, takes.
        limit: u64,
    },
    /// The command line holds a NUL byte.
    #[error("the command line holds a NUL byte")]
    CommandLineNul,
    /// A part does not fit into the guest's memory.
    #[error("{part} needs memory up to {needed:#x} and the guest has {available:#x} below 4 GiB: give it at least {} MiB more", (.needed - .available).div_ceil(1 << 20))]
    LittleMemory {
        /// What does not fit.
        part: Part,
        /// First address beyond it.
        needed: u64,
        /// End of the guest's low memory.
        available: u64,
    },
    /// Two parts need the same memory.
    #[error(
        "{first} and {second} both need guest memory at {address:#x}: give the guest more memory, or a smaller initrd"
    )]
    Overlap {
        /// The part placed first.
        first: Part,
        /// The part that collides with it.
        second: Part,
        /// An address that both need.
        address: u64,
    },
    /// The image wants to be loaded to the first megabyte, where the tables are, or to no address at all.
    #[error("{part} is linked to run at {address:#x}, which is not in the guest's memory above the first 64 KiB")]
    BadAddress {
        /// Which part.
        part: Part,
        /// Its address.
        address: u64,
    },
    /// An access outside guest memory: a mistake of this loader, reported rather than hidden.
    #[error(transparent)]
    OutOfGuest(#[from] OutOfGuest),
}
