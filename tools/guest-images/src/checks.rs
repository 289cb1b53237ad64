//! `builtin:checks`: an initial RAM disk with which Linux checks the machine that it runs on.
//!
//! Its lines begin with `check:`.
//! - `check: init tsc=N` is the first one: the time-stamp counter when the kernel started the first program;
//! - `check: nproc N` counts the processors, all of which run;
//! - `check: pipes ok`, `futexes`, `forks` and `mappings` are the parts of a parallel workload (`workload/`), `pipes`
//!   and `forks` those of the one that kernels of 32 bits have instead: a script, since there is no compiler for them here;
//! - `check: disk ok sha256=S bytes=N processors=N` stands for a file that was written to `/dev/vda`, read back after it
//!   had left the cache, and hashed by every processor at the same time: the whole, and a part of its own;
//! - `check: all ok` is the last.
//!
//! Words of the command line ask for more: `bulkhead.disk=N` has N MiB of the disk written and verified, `bulkhead.address=A` and
//! `bulkhead.peer=B` have the guest exchange pings and two streams of 16 MiB with another one, while the disk is at work;
//! `bulkhead.via=C` makes C its way to other networks; `bulkhead.inner=D` gives its second card that address, and has it forward between both
//! cards for as long as the system runs;
//! `bulkhead.silent=B` expects that B does not answer, and that not one frame arrives; `bulkhead.channel=NAME,...` has the guest
//! exchange 1 MiB each way over the channel of each name, one after the other, and tell the hash of both;
//! `bulkhead.control=PORT` has it ask the control port of `/dev/vda` again and again while the disk is checked:
//! `check: control ok asked=N model=M serial=S identify=H` tells what the drive says of itself, the last one as a hash.
//!
//! Then the power goes off, or, if the kernel's command line has [`INTERACTIVE`], there is a shell. A guest that found
//! something wrong resets instead.
//!
//! With the word `bulkhead.fork-exec` on the command line there are no checks: programs are started, one after the other, between two
//! checkpoints for a monitor that counts exits, and `check: programs ok count=N` says how many.

use crate::{architecture::Architecture, cpio::Archive, first_program};

/// The word of the command line that asks for a shell.
pub const INTERACTIVE: &str = "bulkhead.interactive";

/// The kernel modules that a virtio disk takes, in the order in which they are loaded.
pub(crate) const DISK_MODULES: [&str; 6] =
    ["virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci", "virtio_blk"];
/// Those that its file system takes, the last one with the others' help; other kernels have it built in.
pub(crate) const FILE_SYSTEM_MODULES: [&str; 5] = ["crc16", "crc32c_generic", "mbcache", "jbd2", "ext4"];

/// Those that a virtio network card takes.
pub(crate) const NETWORK_MODULES: [&str; 3] = ["failover", "net_failover", "virtio_net"];
/// The one that channels take, which are ports of a virtio console.
pub(crate) const CHANNEL_MODULES: [&str; 1] = ["virtio_console"];

/// What the script has instead of the modules' names.
const MODULES_PLACE: &str = "@MODULES@";
const SCRIPT: &str = include_str!("checks/start.sh");
/// What the interactive shell begins with.
const SHELL_START: &str = include_str!("checks/shell.sh");

/// The parallel workload of kernels that cannot run the program.
pub(crate) const WORKLOAD_SCRIPT: &str = include_str!("checks/workload.sh");

/// The archive, uncompressed: unpacking costs a guest more than the boot loader saves.
pub(crate) fn initramfs(
    architecture: Architecture,
    busybox: &[u8],
    workload: &[u8],
    modules: &[(&str, Vec<u8>)],
) -> Vec<u8> {
    let mut archive = linux(architecture, busybox, workload, modules, SCRIPT);
    archive.file("etc/shell", SHELL_START.as_bytes());
    archive.finish()
}

/// Linux' first programs: the one that tells the time, and the script that it becomes.
pub(crate) fn linux(
    architecture: Architecture,
    busybox: &[u8],
    workload: &[u8],
    modules: &[(&str, Vec<u8>)],
    text: &str,
) -> Archive {
    let mut archive = Archive::default();
    for directory in ["bin", "dev", "etc", "lib", "mnt", "proc", "sys"] {
        archive.directory(directory);
    }
    archive.character_device("dev/console", (5, 1));
    archive.program("init", &first_program::elf(architecture));
    archive.program("etc/start", script(text, modules).as_bytes());
    archive.program("bin/busybox", busybox);
    archive.link("bin/sh", "busybox");
    archive.program("bin/workload", workload);
    for (name, bytes) in modules {
        archive.file(&format!("lib/{name}.ko"), bytes);
    }
    archive
}

/// The script, with the modules' names in it.
fn script(text: &str, modules: &[(&str, Vec<u8>)]) -> String {
    let names: Vec<_> = modules.iter().map(|(name, _)| *name).collect();
    text.replace(MODULES_PLACE, &names.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::Write as _,
        process::{Command, Stdio},
    };

    #[test]
    fn script_is_one_that_a_shell_reads() {
        let script = script(SCRIPT, &[("virtio", Vec::new()), ("virtio_blk", Vec::new())]);
        assert!(script.contains("for module in virtio virtio_blk; do") && !script.contains('@'));
        assert!(script.contains(INTERACTIVE));
        for text in [script.as_str(), SHELL_START, WORKLOAD_SCRIPT] {
            let mut shell = Command::new("sh").arg("-n").stdin(Stdio::piped()).spawn().unwrap();
            shell.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
            assert!(shell.wait().unwrap().success());
        }
    }

    #[test]
    fn first_program_starts_a_script_that_is_there() {
        let make = |architecture| initramfs(architecture, b"busybox", b"workload", &[("virtio", b"module".to_vec())]);
        let archive = make(Architecture::Amd64);
        let contains = |text: &[u8]| archive.windows(text.len()).any(|window| window == text);
        // A header's end stands before the archive's name, a slash before the program's.
        assert!(contains(b"00000000etc/start\0") && contains(b"/etc/start\0"));
        assert!(contains(b"lib/virtio.ko\0") && contains(b"module"));
        assert_eq!(archive, make(Architecture::Amd64));
        assert_ne!(archive, make(Architecture::I386));
    }
}
