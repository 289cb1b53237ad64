//! `builtin:stream`: an initial RAM disk with which Linux sends a stream over TCP, and prints what that costs.
//!
//! It is the same for a guest with a virtio network card and for the bare machine with an e1000, so that the two can be compared. The
//! words `bulkhead.address`, `bulkhead.gateway` and `bulkhead.port` of the command line say who sends to whom. The figure is a JSON object,
//! as those of other benchmarks.

use crate::{architecture::Architecture, checks};

/// The package whose kernel it goes with: that of virtual machines has no driver for the e1000.
pub(crate) const KERNEL: &str = "linux-image-amd64";
/// The kernel modules that an e1000 takes.
pub(crate) const CARD_MODULES: [&str; 1] = ["e1000"];

const SCRIPT: &str = include_str!("stream/start.sh");

/// The archive.
pub(crate) fn initramfs(busybox: &[u8], workload: &[u8], modules: &[(&str, Vec<u8>)]) -> Vec<u8> {
    checks::linux(Architecture::Amd64, busybox, workload, modules, SCRIPT).finish()
}
