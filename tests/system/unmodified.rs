//! Kernels of others than Linux, as Debian has them. A machine that cannot fetch them skips these tests, and says so.

use bulkhead_harness::Backend;

use crate::machine::{Outcome, has, run};

/// Runs the manifest; `None` if a package is not to be had.
fn run_fetched(manifest: &str) -> Option<Outcome> {
    if !has(Backend::Bochs) {
        return None;
    }
    let outcome = run(manifest, Backend::Bochs, &[]);
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
    let Some(outcome) = run_fetched("tests/manifests/memtest.toml") else {
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
    let Some(outcome) = run_fetched("tests/manifests/mach.toml") else {
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
