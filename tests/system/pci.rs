//! Devices on the PCI bus: found before the seal, handed out by name, and their interrupts arrive.

use bulkhead_harness::Backend;

use crate::machine::{has, run};

#[test]
fn devices_are_found_and_their_messages_arrive() {
    if !has(Backend::Qemu) {
        return;
    }
    run("tests/manifests/pci.toml", Backend::Qemu, &[])
        .expect_status(0)
        .expect_in_order(&["(by memory), 2 devices wanted", "bus| 00:10.0: 1b36:0010", "bus| 00:11.0: 8086:10d3"])
        .expect_in_order(&[
            "probe| device nvme0: 1b36:0010, class 010802",
            "probe| device nvme0: BAR 0: 16 KiB of memory",
            "probe| device nvme0: 2 interrupts by MSI-X",
            "probe| device net0: 8086:10d3, class 020000",
            "probe| device net0: interrupt came",
        ])
        .expect_in_order(&["init| bulkhead: end: ok"]);
}

#[test]
fn a_device_that_is_not_there_refuses_its_owner_alone() {
    if !has(Backend::Qemu) {
        return;
    }
    // Every model there is, and an IOMMU in the machine.
    run("tests/manifests/pci-models.toml", Backend::Qemu, &[])
        .expect_status(0)
        .expect_in_order(&["cannot run partition unlucky: device absent: there is no such device on the bus"])
        .expect_in_order(&["bereft| the server has failed"])
        .expect_in_order(&[
            "probe| device ahci0: 8086:2922",
            "probe| device ahci0: 1 interrupts by MSI",
            "probe| device ahci0: interrupt came",
            "probe| device nvme1: BAR 0: 16 KiB of memory",
            "probe| device net0: 1 interrupts by line",
            "probe| device net0: interrupt came",
            "probe| device net1: interrupt came",
            "probe| device disk0: 1af4:1042",
            "probe| device net2: 3 interrupts by MSI-X",
        ]);
}

#[test]
fn bochs_has_a_card_with_an_interrupt_line() {
    if !has(Backend::Bochs) {
        return;
    }
    run("tests/manifests/pci-bochs.toml", Backend::Bochs, &[]).expect_status(0).expect_in_order(&[
        "(by ports), 1 devices wanted",
        "probe| device net0: 8086:100e",
        "probe| device net0: interrupt came",
    ]);
}

#[test]
fn a_backend_without_the_device_says_so() {
    if !has(Backend::Bochs) {
        return;
    }
    let outcome = run("tests/manifests/pci.toml", Backend::Bochs, &[]).expect_status(2);
    assert!(outcome.messages.contains("bochs cannot have"), "{outcome}");
}
