//! Partitions that fail in every way, while the others go on.

use bulkhead_harness::Backend;

use crate::machine::{has, run};

#[test]
fn pauses_double_and_nobody_waits_for_them() {
    if !has(Backend::Qemu) {
        return;
    }
    run("tests/manifests/backoff.toml", Backend::Qemu, &[])
        .expect_status(0)
        .expect_in_order(&[
            "partition crashing pauses for 100 ms before restart 1",
            "partition crashing is started anew (1)",
            "crashing| hello from partition crashing (generation 1)",
            "partition crashing pauses for 200 ms before restart 2",
            "partition crashing pauses for 400 ms before restart 3",
            "partition crashing pauses for 800 ms before restart 4",
            "steady| 1 s since start",
            "partition crashing is started anew (4)",
            "partition crashing stays stopped",
            "init| bulkhead: end: ok",
        ])
        .expect_absent("started anew (5)");
}
