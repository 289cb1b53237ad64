//! Kernels of others than Linux, and firmware, as Debian has them. A machine that cannot fetch them skips these tests,
//! and says so.

use bulkhead_harness::Backend;

use std::{fs, path::Path};

use crate::machine::{Outcome, has, run_within};

/// Seconds after which a run is ended; many times what any of them takes, which is a minute at most.
const LIMIT: u64 = 400;

/// Runs the manifest; `None` if a package is not to be had.
fn run_fetched(manifest: &str, arguments: &[&str]) -> Option<Outcome> {
    if !has(Backend::Bochs) {
        return None;
    }
    let outcome = run_within(LIMIT, manifest, Backend::Bochs, arguments);
    let missing = ["cannot fetch Debian's", "cannot run apt-get"];
    match outcome.messages.lines().find(|line| missing.iter().any(|text| line.contains(text))) {
        Some(line) if outcome.status == Some(2) => {
            eprintln!("skipped: {manifest}: {}", line.trim());
            None
        }
        _ => Some(outcome),
    }
}

/// Detection, and the first tests by both processors.
#[test]
fn memtest_finds_no_error() {
    let Some(outcome) = run_fetched("tests/manifests/memtest.toml", &[]) else {
        return;
    };
    let outcome = outcome.expect_status(0).expect_in_order(&[
        "Memtest86+ v6.10",
        "Memory  :   32MB",
        "CPU: 2 Cores 2 Threads    SMP: 2T (PAR)",
        "#0  [Address test, walking ones, no cache]",
        "#3  [Moving inversions, 1s & 0s]",
    ]);
    let errors: Vec<_> = outcome.serial.split("Errors: ").skip(1).collect();
    assert!(errors.iter().all(|count| count.starts_with("0 ")), "{outcome}");
}

/// A 32-bit kernel by the multiboot protocol, up to the modules that nobody gave it.
#[test]
fn mach_finds_its_devices() {
    finds_its_devices("tests/manifests/mach.toml", &[]);
}

/// The same by shadow tables of the two-level kind. What it does before there are any is interpreted.
#[test]
fn mach_finds_its_devices_without_extended_page_tables() {
    finds_its_devices("tests/manifests/mach-interpreted.toml", &["--cpu", "core2_penryn_t9600"]);
}

fn finds_its_devices(manifest: &str, arguments: &[&str]) {
    let Some(outcome) = run_fetched(manifest, arguments) else {
        return;
    };
    outcome.expect_status(0).expect_in_order(&[
        "mach| GNU Mach 1.8",
        "mach| biosmem: 000000000000100000:000000000004000000, available",
        "mach| pcibios_init: Using configuration type 1",
        "mach| Probing PCI hardware.",
        "mach| RTC time is 2026-01-01",
        "bootstrap_create: No bootstrap code loaded with the kernel!",
    ]);
}

/// A disk whose boot sector prints a line on COM1, and powers the machine off by its ACPI registers.
fn bootable_disk() -> String {
    const START: [u8; 30] = [
        0xfa, 0xfc, // cli, cld
        0x31, 0xc0, 0x8e, 0xd8, // ds = 0
        0xbe, 0x1e, 0x7c, // si = the text behind this
        0xba, 0xf8, 0x03, // dx = COM1
        0xac, 0x84, 0xc0, 0x74, 0x03, // the next character; the last one is 0
        0xee, 0xeb, 0xf8, // out, and again
        0xba, 0x04, 0x06, 0xb8, 0x00, 0x34, 0xef, // port 0x604: sleep type 5, sleep enable
        0xf4, 0xeb, 0xfd, // hlt for ever
    ];
    let mut disk = START.to_vec();
    disk.extend(b"boot sector: off\r\n\0");
    disk.resize(510, 0);
    disk.extend([0x55, 0xaa]);
    disk.resize(2 << 20, 0);
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bootable.img");
    fs::write(&path, disk).expect("a file");
    path.display().to_string()
}

/// It finds processors, memory, PCI functions and a virtio disk, and starts what is on that.
#[test]
fn seabios_boots_from_a_disk() {
    let Some(outcome) = run_fetched("tests/manifests/seabios.toml", &["--disk", &bootable_disk()]) else {
        return;
    };
    outcome.expect_status(0).expect_in_order(&[
        "SeaBIOS (version",
        "Booting from Hard Disk",
        "boot sector: off",
        "init| bulkhead: partition pc has finished: the guest powered off (code 0)",
    ]);
}
