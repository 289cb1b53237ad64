//! What a device reaches: its owner's memory for DMA, where there is an IOMMU.

use bulkhead_harness::Backend;

use crate::machine::{has, run};

#[test]
fn a_rogue_driver_is_confined_and_reported_and_its_neighbour_notices_nothing() {
    if !has(Backend::Qemu) {
        return;
    }
    run("tests/manifests/rogue.toml", Backend::Qemu, &[])
        .expect_status(0)
        .expect_in_order(&["init| bulkhead: devices are confined to their memory, and to their interrupts"])
        .expect_in_order(&[
            "rogue| the device reaches its own memory",
            "bus| 00:10.0: read of 0x4000000 refused",
            "rogue| the device cannot read the secret",
            "bus| 00:10.0: read of 0x100000 refused",
            "rogue| the device cannot read the target",
            "bus| 00:10.0: write to 0x4000000 refused",
            "rogue| the device cannot overwrite the secret",
            "bus| 00:10.0: write to 0x100000 refused",
            "bus| 00:10.0: 32 faults: it does not master the bus any more",
            "rogue| the device is no longer on the bus",
        ])
        .expect_in_order(&["check| written: 16384 KiB", "check| read back: 16384 KiB", "check| discarded"]);
}

#[test]
fn without_an_iommu_the_same_device_reads_what_it_must_not() {
    if !has(Backend::Qemu) {
        return;
    }
    let outcome = run("tests/manifests/rogue-open.toml", Backend::Qemu, &[]).expect_status(1);
    outcome
        .expect_in_order(&["init| bulkhead: devices are not confined to their memory, and not to their interrupts"])
        .expect_in_order(&["rogue| the device has read the secret"]);
}
