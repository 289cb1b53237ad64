//! Guests with several processors: they start in every way, and interrupt one another in every mode, without loss.

use bulkhead_harness::Backend;

use crate::machine::{Outcome, has, run, run_within};

/// What the `smp` guest prints in each mode of the local APIC.
const STARTED: [&str; 5] = [
    ": each started by itself",
    ": a SIPI to a running processor is ignored",
    ": INIT stops a processor, which starts again at another vector",
    ": INIT gets through to a processor that is halted without interrupts",
    ": all started at once",
];
/// Manifests of the `ipi` guest: two processors on two CPUs, four on four, and four on two.
const TWO: &str = "tests/manifests/ipi.toml";
const FOUR: &str = "tests/manifests/ipi-4.toml";
const SHARED: &str = "tests/manifests/ipi-shared.toml";
/// Processors with hardware's help for the local APIC, without it, without unrestricted guests, too, and without extended page
/// tables.
const WITH_VIRTUAL_APIC: &str = "corei7_skylake_x";
const WITHOUT_VIRTUAL_APIC: &str = "corei7_sandy_bridge_2600k";
const WITHOUT_UNRESTRICTED_GUEST: &str = "corei5_lynnfield_750";
const WITHOUT_EPT: &str = "core2_penryn_t9600";
/// Seconds for a million interrupts on a busy host.
const LONG: u64 = 7200;

/// Checks the summary of the `ipi` guest, which judges by itself and powers off only if all was right.
#[track_caller]
fn expect_nothing_lost(outcome: Outcome) {
    let outcome = outcome.expect_status(0);
    let lines = outcome.lines_of("ipi");
    assert!(lines.iter().any(|line| line.ends_with(" received, 0 lost, 0 doubled")), "{outcome}");
    for mode in ["xapic", "x2apic"] {
        let right = format!("ipi: {mode}: priorities, nesting, errors, timers and halting are right");
        assert!(lines.contains(&right.as_str()), "{outcome}");
    }
    assert!(lines.contains(&"guest: off"), "{outcome}");
}

#[track_caller]
fn expect_started(outcome: Outcome, processors: usize) {
    let outcome = outcome.expect_status(0);
    let lines = outcome.lines_of("smp");
    assert!(lines.contains(&format!("smp: {processors} processors").as_str()), "{outcome}");
    for mode in ["xapic", "x2apic"] {
        for what in STARTED {
            assert!(lines.contains(&format!("smp: {mode}{what}").as_str()), "{mode}{what} is missing: {outcome}");
        }
    }
    assert!(lines.contains(&"guest: off"), "{outcome}");
}

#[test]
fn processors_start_in_every_way() {
    if !has(Backend::Bochs) {
        return;
    }
    expect_started(run("tests/manifests/smp.toml", Backend::Bochs, &[]), 2);
    expect_started(run("tests/manifests/smp-4.toml", Backend::Bochs, &[]), 4);
}

#[test]
fn processors_start_where_real_mode_is_interpreted() {
    if !has(Backend::Bochs) {
        return;
    }
    for model in [WITHOUT_UNRESTRICTED_GUEST, WITHOUT_EPT] {
        expect_started(run("tests/manifests/smp.toml", Backend::Bochs, &["--cpu", model]), 2);
    }
}

#[test]
fn two_processors_interrupt_one_another() {
    if !has(Backend::Bochs) {
        return;
    }
    for model in [WITH_VIRTUAL_APIC, WITHOUT_VIRTUAL_APIC, WITHOUT_UNRESTRICTED_GUEST] {
        expect_nothing_lost(run(TWO, Backend::Bochs, &["--cpu", model]));
    }
}

#[test]
fn two_processors_interrupt_one_another_with_shadow_tables() {
    if !has(Backend::Bochs) {
        return;
    }
    expect_nothing_lost(run(TWO, Backend::Bochs, &["--cpu", WITHOUT_EPT]));
}

#[test]
fn four_processors_interrupt_one_another() {
    if !has(Backend::Bochs) {
        return;
    }
    expect_nothing_lost(run(FOUR, Backend::Bochs, &[]));
}

#[test]
fn processors_that_share_cpus_interrupt_one_another() {
    if !has(Backend::Bochs) {
        return;
    }
    expect_nothing_lost(run(SHARED, Backend::Bochs, &[]));
}

#[test]
fn guests_that_share_cpus_interrupt_their_own_processors() {
    if !has(Backend::Bochs) {
        return;
    }
    for model in [WITH_VIRTUAL_APIC, WITHOUT_VIRTUAL_APIC] {
        let outcome = run("tests/manifests/ipi-beside.toml", Backend::Bochs, &["--cpu", model]).expect_status(0);
        for guest in ["ipi", "beside"] {
            let lines = outcome.lines_of(guest);
            assert!(lines.iter().any(|line| line.ends_with(" received, 0 lost, 0 doubled")), "{outcome}");
        }
    }
}

#[test]
fn processors_share_memory() {
    if !has(Backend::Bochs) {
        return;
    }
    for model in [WITH_VIRTUAL_APIC, WITHOUT_EPT] {
        run("tests/manifests/smp-memory.toml", Backend::Bochs, &["--cpu", model])
            .expect_status(0)
            .expect_in_order(&["smp-memory: 2 processors, 1024 pages at 0x800000", "visits, all pages are right"]);
    }
}

/// `cargo test --test system a_million -- --ignored`
#[test]
#[ignore = "takes minutes"]
fn a_million_interrupts_arrive() {
    if !has(Backend::Bochs) {
        return;
    }
    for manifest in ["tests/manifests/ipi-million.toml", "tests/manifests/ipi-4-million.toml"] {
        expect_nothing_lost(run_within(LONG, manifest, Backend::Bochs, &[]));
    }
}
