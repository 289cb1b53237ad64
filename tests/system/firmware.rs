//! A guest that starts at the reset vector, by its own firmware, and what the machine tells firmware.

use bulkhead_harness::Backend;

use crate::machine::{has, run};

/// EPT, but no guests in real mode: the monitor interprets what the firmware does there.
const WITHOUT_UNRESTRICTED_GUEST: &str = "corei5_lynnfield_750";
/// Not even these.
const WITHOUT_EPT: &str = "core2_penryn_t9600";

#[test]
fn firmware_starts_at_the_reset_vector() {
    starts(&[]);
}

#[test]
fn firmware_starts_on_a_processor_without_guests_in_real_mode() {
    starts(&["--cpu", WITHOUT_UNRESTRICTED_GUEST]);
}

#[test]
fn firmware_starts_on_a_processor_without_extended_page_tables() {
    starts(&["--cpu", WITHOUT_EPT]);
}

fn starts(arguments: &[&str]) {
    if !has(Backend::Bochs) {
        return;
    }
    run("tests/manifests/firmware.toml", Backend::Bochs, arguments)
        .expect_status(0)
        .expect_in_order(&[
            "reset| firmware: real mode",
            "reset| firmware: protected mode",
            "reset| firmware: processors 00000001",
            "reset| firmware: host bridge 12378086",
            "reset| firmware: event timer 8086a201",
            "reset| firmware: off",
            "init| bulkhead: partition reset has finished: the guest powered off (code 0)",
        ])
        .expect_absent("FAILED");
}
