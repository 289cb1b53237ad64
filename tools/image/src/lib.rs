//! Builds the bootable image.
//!
//! The image is an ISO 9660 CD with an El Torito boot record. A CD rather than a disk, because GRUB reads it
//! faster (under Bochs 11 million ticks a megabyte against 14), and because the machine's IDE disk stays free for the
//! guests. GRUB's core holds the four modules it needs and its commands in an embedded configuration, so it loads
//! neither a menu nor a further module: 60 million ticks from power-on to the kernel's first instruction.
//!
//! This crate must never look into what it packs: kernel, plan and modules are files and names to it.
#![forbid(unsafe_code)]

mod cd;
mod error;
mod iso;
mod linux;
mod module;
mod tool;

pub use error::ImageError;
pub use iso::build_image;
pub use linux::build_linux_image;
pub use module::Module;
pub use tool::{TOOLS, Tool, install_line};
