//! A guest that starts at the reset vector, by its own firmware, and what the machine tells firmware.

use bulkhead_harness::Backend;

use crate::machine::{has, run};

#[test]
fn firmware_starts_at_the_reset_vector() {
    if !has(Backend::Bochs) {
        return;
    }
    run("tests/manifests/firmware.toml", Backend::Bochs, &[])
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
