//! Debian's Linux as a guest: it counts its processors, runs a parallel workload that checks itself on all of them, hashes its
//! disk from all of them at once, and powers off.
//!
//! Each run takes minutes. Those that are ignored by default are started by
//! `cargo test --test system linux:: -- --include-ignored`.

use crate::machine::{Outcome, run_packaged};

/// Seconds after which a run is ended; on a busy host four times what it takes.
const LIMIT: u64 = 1200;
/// What only the host can know of the guests of the default manifest.
const DEFAULT_GUESTS: [(&str, usize); 2] = [("linux-a", 2), ("linux-b", 1)];
/// EPT, but neither unrestricted guests nor APIC virtualization.
const LYNNFIELD: [&str; 2] = ["--cpu", "corei5_lynnfield_750"];
/// Not even EPT.
const PENRYN: [&str; 2] = ["--cpu", "core2_penryn_t9600"];
/// Unrestricted guests, but no APIC virtualization.
const SANDY_BRIDGE: [&str; 2] = ["--cpu", "corei7_sandy_bridge_2600k"];

/// Runs a manifest; `None` on a host that has no Bochs, or cannot fetch the guest.
fn run(manifest: &str, arguments: &[&str]) -> Option<Outcome> {
    run_packaged(LIMIT, manifest, arguments)
}

/// Everything that a guest with so many processors checks has gone well, in order.
fn expect_checks(outcome: &Outcome, guest: &str, processors: usize) {
    expect_parts(outcome, guest, processors, &["pipes", "futexes", "forks", "mappings"]);
}

/// The same with these parts of a parallel workload.
fn expect_parts(outcome: &Outcome, guest: &str, processors: usize, parts: &[&str]) {
    let lines = outcome.lines_of(guest);
    let mut rest = lines.iter();
    let parts = parts.iter().map(|part| (format!("check: {part} ok processors="), true));
    let expected = [(format!("check: nproc {processors}"), false)]
        .into_iter()
        .chain(parts)
        .chain([("check: disk ok sha256=".to_owned(), true), ("check: all ok".to_owned(), false)]);
    for (start, with_count) in expected {
        let line = rest.find(|line| line.starts_with(&start));
        let line = line.unwrap_or_else(|| panic!("{guest} does not say `{start}`, or in another order:\n{outcome}"));
        let count = format!("processors={processors}");
        assert!(!with_count || line.split(' ').any(|word| word == count), "{guest}: {line}\n{outcome}");
    }
    assert!(lines.iter().all(|line| !line.contains("FAILED")), "{outcome}");
    let monitor = outcome.lines_of(&format!("{guest}-vmm"));
    assert!(monitor.contains(&"vmm: the guest powered off"), "{outcome}");
}

/// The default manifest: two guests, of which one has two processors, beside a native program.
fn expect_default(arguments: &[&str]) {
    let Some(outcome) = run("partitions/default.toml", arguments) else {
        return;
    };
    for (guest, processors) in DEFAULT_GUESTS {
        expect_checks(&outcome, guest, processors);
    }
    assert!(outcome.lines_of("hello").contains(&"5 s since start"), "{outcome}");
    // They ran at the same time.
    let place = |text: &str| outcome.serial.find(text).unwrap_or_else(|| panic!("`{text}` is missing:\n{outcome}"));
    assert!(place("linux-b| ") < place("linux-a-vmm| vmm: the guest powered off"), "{outcome}");
}

#[test]
#[ignore = "takes minutes; .ci/run boots the same"]
fn default_guests() {
    expect_default(&[]);
}

#[test]
#[ignore = "takes minutes"]
fn default_guests_without_apic_virtualization() {
    expect_default(&SANDY_BRIDGE);
}

#[test]
#[ignore = "takes minutes"]
fn default_guests_without_unrestricted_guest_mode() {
    expect_default(&LYNNFIELD);
}

#[test]
#[ignore = "takes minutes"]
fn default_guests_without_extended_page_tables() {
    expect_default(&PENRYN);
}

#[test]
#[ignore = "takes minutes"]
fn guest_with_four_processors() {
    if let Some(outcome) = run("partitions/linux-4cpus.toml", &["--cpus", "4"]) {
        expect_checks(&outcome, "linux", 4);
    }
}

#[test]
#[ignore = "takes minutes, and fetches another kernel"]
fn preempt_rt_kernel() {
    if let Some(outcome) = run("partitions/linux-rt.toml", &[]) {
        assert!(outcome.lines_of("linux").iter().any(|line| line.contains(" PREEMPT_RT ")), "{outcome}");
        expect_checks(&outcome, "linux", 2);
    }
}

/// A guest of 32 bits with two processors.
fn expect_32_bits(manifest: &str) {
    if let Some(outcome) = run(manifest, &[]) {
        assert!(outcome.lines_of("linux").iter().any(|line| line.contains(" i686 ")), "{outcome}");
        expect_parts(&outcome, "linux", 2, &["pipes", "forks"]);
    }
}

#[test]
#[ignore = "takes minutes, and fetches another kernel"]
fn two_level_paging() {
    expect_32_bits("tests/manifests/linux-686.toml");
}

#[test]
#[ignore = "takes minutes, and fetches another kernel"]
fn pae_paging() {
    expect_32_bits("tests/manifests/linux-686-pae.toml");
}

#[test]
#[ignore = "takes minutes"]
fn two_level_paging_in_shadow_tables() {
    expect_32_bits("tests/manifests/linux-686-shadow.toml");
}

#[test]
fn pae_paging_in_shadow_tables() {
    expect_32_bits("tests/manifests/linux-686-pae-shadow.toml");
}
