//! Builds the bootable GRUB image.
#![forbid(unsafe_code)]
