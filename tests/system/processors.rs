//! Processor models: what they lack is named before the machine boots, and again by the machine itself.

use bulkhead_harness::Backend;

use crate::machine::{has, run};

/// VMX without EPT, and no x2APIC.
const WITHOUT_EPT: &str = "core2_penryn_t9600";
/// No VMX; the host command does not know it, so that the machine has to find out.
const WITHOUT_VMX: &str = "athlon64_venice";

#[test]
fn guests_are_refused_without_vmx_before_anything_boots() {
    let outcome = run("partitions/guests.toml", Backend::Qemu, &[])
        .expect_status(2)
        .expect_message("VMX")
        .expect_message("hello")
        .expect_message("--backend bochs");
    assert_eq!(outcome.serial, "");
}

#[test]
fn guests_that_want_ept_are_refused_without_before_anything_boots() {
    let outcome = run("tests/manifests/ept.toml", Backend::Bochs, &["--cpu", WITHOUT_EPT])
        .expect_status(2)
        .expect_message("EPT")
        .expect_message("hello");
    assert_eq!(outcome.serial, "");
}

#[test]
fn guests_are_refused_by_the_machine_by_name() {
    if !has(Backend::Bochs) {
        return;
    }
    run("partitions/guests.toml", Backend::Bochs, &["--cpu", WITHOUT_VMX])
        .expect_status(1)
        .expect_in_order(&["no VMX", "partition hello", "VMX", "partition real", "VMX"])
        .expect_in_order(&["init| bulkhead: end: failed: "]);
}

#[test]
fn guest_that_cannot_run_leaves_the_others_alone() {
    if !has(Backend::Bochs) {
        return;
    }
    run("tests/manifests/mixed.toml", Backend::Bochs, &["--cpu", WITHOUT_VMX])
        .expect_status(0)
        .expect_in_order(&["partition optional", "VMX"])
        .expect_in_order(&["hello| 1 s since start", "init| bulkhead: end: ok"]);
}

/// The default model has an x2APIC; this one has not, so interrupts between processors take the other way.
#[test]
fn two_processors_with_xapic() {
    if !has(Backend::Bochs) {
        return;
    }
    run("tests/manifests/two-cpus.toml", Backend::Bochs, &["--cpu", WITHOUT_EPT])
        .expect_status(0)
        .expect_in_order(&["bulkhead: 2 processors"])
        .expect_in_order(&["second| 1 s since start"]);
}
