//! The worked examples of `partitions/examples` do what they say.

use bulkhead_harness::Backend;

use crate::machine::{Outcome, has, run, run_packaged};

/// Seconds after which a run is ended; several times what it takes.
const LIMIT: u64 = 1200;

fn expect_lines(outcome: &Outcome, name: &str, expected: &[&str]) {
    let lines = outcome.lines_of(name);
    for text in expected {
        assert!(lines.iter().any(|line| line.starts_with(text)), "{name} does not say `{text}`:\n{outcome}");
    }
    assert!(!lines.iter().any(|line| line.contains("FAILED")), "{outcome}");
}

#[test]
fn a_rogue_driver_and_its_two_neighbours() {
    if !has(Backend::Qemu) {
        return;
    }
    let outcome = run("partitions/examples/driver-isolation.toml", Backend::Qemu, &[]).expect_status(0);
    expect_lines(&outcome, "rogue", &["the device cannot read the target", "the device is no longer on the bus"]);
    expect_lines(&outcome, "storage", &["read back: 16384 KiB"]);
    expect_lines(&outcome, "network", &["device net0: interrupt came"]);
}

#[test]
#[ignore = "takes minutes"]
fn a_guest_alone() {
    if let Some(outcome) = run_packaged(LIMIT, "partitions/examples/single-guest.toml", &[]) {
        expect_lines(&outcome, "linux", &["check: disk ok", "check: all ok"]);
    }
}

#[test]
#[ignore = "takes minutes"]
fn a_controller_beside_linux() {
    if let Some(outcome) = run_packaged(LIMIT, "partitions/examples/mixed-criticality.toml", &[]) {
        expect_lines(&outcome, "control", &["observed: 500 windows"]);
        expect_lines(&outcome, "linux", &["check: nproc 2", "check: disk ok", "check: all ok"]);
    }
}

#[test]
#[ignore = "takes minutes"]
fn a_firewall_between_two_guests() {
    if let Some(outcome) = run_packaged(LIMIT, "partitions/examples/firewall-chain.toml", &[]) {
        expect_lines(&outcome, "firewall", &["check: forwards between 10.1.1.1 and 10.1.2.1"]);
        expect_lines(&outcome, "client", &["check: network ok peer=10.1.2.2", "check: all ok"]);
        expect_lines(&outcome, "server", &["check: network ok peer=10.1.1.2", "check: all ok"]);
    }
}

#[test]
#[ignore = "takes minutes, and fetches another kernel"]
fn a_legacy_guest_in_shadow_tables() {
    if let Some(outcome) = run_packaged(LIMIT, "partitions/examples/legacy-shadow.toml", &[]) {
        expect_lines(&outcome, "legacy", &["check: disk ok", "check: all ok"]);
    }
}
