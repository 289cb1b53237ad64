//! Drivers of drives on the PCI bus: every sector is written and read back.

use bulkhead_harness::Backend;

use crate::machine::{has, run};

#[test]
fn the_block_service_starts_on_each_drive() {
    if !has(Backend::Qemu) {
        return;
    }
    for (name, drive) in [("nvme", "QEMU NVMe Ctrl"), ("ahci", "QEMU HARDDISK")] {
        run(&format!("tests/manifests/{name}.toml"), Backend::Qemu, &[])
            .expect_status(0)
            .expect_in_order(&[&format!("block| drive {drive}: 131072 sectors")]);
    }
}

#[test]
fn drivers_write_and_read_all_sectors_with_many_commands_in_flight() {
    if !has(Backend::Qemu) {
        return;
    }
    for (name, depth, zeroes) in [("nvme", 64, &["check| zeroes read back"][..]), ("ahci", 32, &[])] {
        let manifest = format!("tests/manifests/drivecheck-{name}.toml");
        let outcome = run(&manifest, Backend::Qemu, &[]).expect_status(0);
        let depth = format!("check| {depth} commands in flight");
        let begin = [depth.as_str(), "check| written: 16384 KiB", "check| flushed", "check| read back: 16384 KiB"];
        outcome.expect_in_order(&begin).expect_in_order(zeroes).expect_in_order(&["check| discarded"]);
    }
}
