//! Drivers of drives on the PCI bus, behind an IOMMU: every sector is written and read back, by the driver itself and by clients of the block
//! service over it; who is killed starts the device anew.

use bulkhead_harness::Backend;

use crate::machine::{has, run, run_packaged};

/// Seconds after which a run with Linux is ended.
const LINUX_LIMIT: u64 = 600;

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

#[test]
fn native_clients_of_each_block_service_keep_to_their_ranges_and_lose_nothing_when_it_is_killed() {
    if !has(Backend::Qemu) {
        return;
    }
    for name in ["ahci", "nvme", "virtio-blk"] {
        let outcome = run(&format!("tests/manifests/clients-{name}.toml"), Backend::Qemu, &[]).expect_status(0);
        let served = "block| disk two/0 of two: 32768 sectors from 16384, read-write";
        outcome
            .expect_in_order(&[served, "partition block is killed (1 of 2)", served])
            .expect_in_order(&[
                "partition block is killed (2 of 2)",
                served,
                "two| disk two/0: written and read back",
                "two| disk two/0: nothing outside it is reached",
            ])
            .expect_in_order(&[
                "one| disk one/0: 16384 sectors",
                "partition one is killed (1 of 1)",
                "one| disk one/0: 16384 sectors",
                "one| disk one/0: written",
                "one| disk one/0: nothing outside it is reached",
            ])
            .expect_in_order(&["one| disk one/1: cannot be written, can be read"]);
    }
}

/// The guest shares no memory with the service of its disk (`tools/manifest/tests/compile.rs`), and still notices nothing when that is killed.
#[test]
fn a_copied_disk_survives_its_service() {
    let Some(outcome) = run_packaged(LINUX_LIMIT, "tests/manifests/copied-disk.toml", &[]) else {
        return;
    };
    // Both checks of the disk are cut by kills.
    let outcome = outcome.expect_in_order(&[
        "check: vda sectors=32768 serial=linux/0 queues=1",
        "check: vda blocks=512,512 cache=write back",
        "check: vda discard=0 zeroes=0 segments=256",
        "partition block is killed (1 of 20)",
        "check: disk ok sha256=",
        "partition block is killed (",
        "check: disk ok bytes=8388608",
        "check: all ok",
    ]);
    let lines = outcome.lines_of("linux");
    assert!(!lines.iter().any(|line| line.contains("I/O error") || line.contains("FAILED")), "{outcome}");
}

/// The block service goes on while the monitor of its guest starts anew: what it did for the last life has ended before the next one uses the memory.
#[test]
fn a_guest_that_starts_anew_finds_its_disk_as_new() {
    let Some(outcome) = run_packaged(LINUX_LIMIT, "tests/manifests/guest-restart.toml", &[]) else {
        return;
    };
    outcome.expect_in_order(&[
        "check: vda sectors=32768 serial=linux/0 queues=1",
        "partition linux is made to crash",
        "partition linux is started anew (1)",
        "check: vda sectors=32768 serial=linux/0 queues=1",
        "check: disk ok sha256=",
        "check: disk ok bytes=8388608",
        "check: all ok",
    ]);
}
