//! `builtin:reads`: an initial RAM disk with which Linux reads a disk, and prints what that costs.
//!
//! It is the same for a guest with a virtio disk and for the bare machine with an IDE disk, so that the two can be compared.
//! Figures are JSON objects, as those of other benchmarks; names begin with `block.`.

use crate::{architecture::Architecture, checks};

/// The kernel modules that an IDE disk takes, in the order in which they are loaded.
pub(crate) const IDE_MODULES: [&str; 5] = ["scsi_common", "scsi_mod", "libata", "ata_piix", "sd_mod"];

const SCRIPT: &str = include_str!("reads/start.sh");

/// The archive.
pub(crate) fn initramfs(busybox: &[u8], workload: &[u8], modules: &[(&str, Vec<u8>)]) -> Vec<u8> {
    checks::linux(Architecture::Amd64, busybox, workload, modules, SCRIPT).finish()
}
