//! Native partitions: they run everywhere, their crashes are reported and contained, and what init says is kept.

use bulkhead_harness::Backend;

use crate::machine::{has, place, run};

const SAYS_HELLO: [&str; 4] = [
    "hello| hello from partition hello (generation 0)",
    "hello| 2 s since start",
    "init| bulkhead: partition hello has finished",
    "init| bulkhead: end: ok",
];

#[test]
fn programs_run_under_bochs_on_one_cpu_and_two() {
    if !has(Backend::Bochs) {
        return;
    }
    for cpus in ["1", "2"] {
        run("partitions/native.toml", Backend::Bochs, &["--cpus", cpus])
            .expect_status(0)
            .expect_in_order(&[&format!("bulkhead: {cpus} processors")])
            .expect_in_order(&SAYS_HELLO);
    }
}

#[test]
fn programs_run_on_a_machine_without_vmx_and_it_is_said() {
    if !has(Backend::Qemu) {
        return;
    }
    run("partitions/native.toml", Backend::Qemu, &[])
        .expect_status(0)
        .expect_in_order(&["no VMX"])
        .expect_in_order(&SAYS_HELLO);
}

#[test]
fn programs_on_two_cpus_share_a_console() {
    for backend in [Backend::Qemu, Backend::Bochs] {
        if !has(backend) {
            continue;
        }
        let outcome = run("tests/manifests/two-cpus.toml", backend, &[]).expect_status(0);
        for name in ["first", "second"] {
            assert_eq!(outcome.lines_of(name).len(), 2, "{outcome}");
        }
    }
}

#[test]
fn crash_is_reported_contained_and_followed_by_a_new_start() {
    if !has(Backend::Qemu) {
        return;
    }
    let outcome = run("tests/manifests/crashes.toml", Backend::Qemu, &[]).expect_status(0).expect_in_order(&[
        "crashing| hello from partition crashing (generation 0)",
        "init| bulkhead: partition crashing thread 0: ",
        "init|   rip hello@0x",
        "init|   rflags 0x",
        "init|   rax ",
        "rsp ",
        "r15 ",
        "init|   on stack hello@0x",
        "init| bulkhead: partition crashing is started anew (1)",
        "crashing| hello from partition crashing (generation 1)",
        "init| bulkhead: partition crashing is started anew (2)",
        "crashing| hello from partition crashing (generation 2)",
        "init| bulkhead: partition crashing has finished",
        "init| bulkhead: end: ok",
    ]);
    // The host command names the lines: of the crash, and of the call that led there.
    let call = place("partitions/hello/src/main.rs", "die(\"crash as the manifest says\")");
    assert!(outcome.terminal.contains(&format!("main {call}")), "{}", outcome.terminal);
    let crash = place("partitions/runtime/src/entry.rs", "asm!(\"ud2\"");
    let rip = outcome.terminal.lines().find(|line| line.contains("  rip hello@0x")).expect("there is such a line");
    assert!(rip.trim_end().ends_with(&crash), "{rip}");
    // The other one noticed nothing.
    let steady = outcome.lines_of("steady");
    assert_eq!(
        steady,
        ["hello from partition steady (generation 0)", "1 s since start", "2 s since start", "3 s since start",],
        "{outcome}"
    );
}

#[test]
fn program_that_keeps_crashing_stays_stopped() {
    if !has(Backend::Qemu) {
        return;
    }
    run("tests/manifests/crashes-for-good.toml", Backend::Qemu, &[])
        .expect_status(1)
        .expect_in_order(&[
            "init| bulkhead: partition crashing is started anew (1)",
            "init| bulkhead: partition crashing stays stopped",
            "init| bulkhead: end: failed: partition crashing",
        ])
        .expect_absent("started anew (2)");
}
