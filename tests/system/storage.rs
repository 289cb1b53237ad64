//! Drivers of drives on the PCI bus, behind an IOMMU: every sector is written and read back, and a driver that is killed starts its device anew.

use bulkhead_harness::Backend;

use crate::machine::{has, run};

#[test]
fn drivers_write_and_read_all_sectors_after_they_were_killed_with_commands_in_flight() {
    if !has(Backend::Qemu) {
        return;
    }
    let zeroes = &["check| zeroes read back"][..];
    for (name, depth, zeroes) in [("nvme", 64, zeroes), ("ahci", 32, &[]), ("virtio", 64, zeroes)] {
        let manifest = format!("tests/manifests/drivecheck-{name}.toml");
        let outcome = run(&manifest, Backend::Qemu, &[]).expect_status(0);
        let depth = format!("check| {depth} commands in flight");
        outcome
            .expect_in_order(&[&depth, "partition check is started anew (1)", &depth])
            .expect_in_order(&["check| written: 131072 KiB", "check| flushed", "check| read back: 131072 KiB"])
            .expect_in_order(zeroes)
            .expect_in_order(&["check| discarded"]);
    }
}

#[test]
fn the_block_service_starts_on_each_drive_and_starts_anew() {
    if !has(Backend::Qemu) {
        return;
    }
    for (name, drive) in [("nvme", "QEMU NVMe Ctrl"), ("ahci", "QEMU HARDDISK"), ("virtio-blk", "Virtio block device")]
    {
        let drive = format!("block| drive {drive}: 131072 sectors");
        run(&format!("tests/manifests/{name}.toml"), Backend::Qemu, &[]).expect_status(0).expect_in_order(&[
            &drive,
            "init| bulkhead: partition block is killed (1 of 3)",
            &drive,
            "init| bulkhead: partition block is killed (3 of 3)",
            &drive,
        ]);
    }
}
