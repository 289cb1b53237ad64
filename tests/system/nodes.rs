//! NUMA nodes: memory is where the manifest says, or its owner does not run.

use std::{ops::Range, path::Path, time::Duration};

use bulkhead_abi::ObjectType;
use bulkhead_harness::{Backend, Input, NumaNode, Run};

use crate::{
    dump::{Table, tables},
    machine::{has, run, turn},
};

/// Where QEMU puts the memory of the nodes of `nodes.toml`: one behind the other.
const NODES: [Range<u64>; 2] = [0..128 << 20, 128 << 20..256 << 20];
/// Bytes of what may be elsewhere: the page shared with init, and the channel to the console.
const SHARED: [u64; 2] = [4 << 10, 16 << 10];

/// The addresses of everything that is mapped in a partition, or was donated to it.
fn memory_of(tables: &[Table], name: &str) -> Vec<Range<u64>> {
    let partition = tables.iter().find(|table| table.name == name).expect("it is there");
    let all = tables.iter().flat_map(|table| &table.capabilities);
    let own = all.filter(|one| one.object == ObjectType::Memory && one.space == partition.generation);
    own.map(|one| one.identity..one.identity + one.size).collect()
}

fn is_within(range: &Range<u64>, node: usize) -> bool {
    NODES[node].start <= range.start && range.end <= NODES[node].end
}

#[test]
fn memory_is_on_the_nodes_that_the_manifest_says() {
    if !has(Backend::Qemu) {
        return;
    }
    let outcome = run("tests/manifests/nodes.toml", Backend::Qemu, &[])
        .expect_status(0)
        .expect_in_order(&[
            "partition crossed runs on CPU 0 of NUMA node 0, and has memory of node 1",
            "crossed| 1 s since start",
        ])
        .expect_in_order(&["far| 1 s since start"])
        .expect_message("nodes::cpu_is_far");
    let tables = tables(&outcome.lines_of("init"), "at the end");
    for (name, node, common) in [("near", 0, 1), ("far", 1, 1), ("crossed", 1, 0)] {
        let memory = memory_of(&tables, name);
        let (here, elsewhere): (Vec<_>, Vec<_>) = memory.into_iter().partition(|range| is_within(range, node));
        let mut sizes: Vec<_> = elsewhere.iter().map(|range| range.end - range.start).collect();
        // What it shares with `far` lies on the other node.
        if name == "near" {
            let place = sizes.iter().position(|size| *size == 192 << 10).expect("the common memory");
            assert!(is_within(&elsewhere[place], 1), "{name}: {elsewhere:?}");
            sizes.remove(place);
        }
        assert!(sizes.iter().all(|size| SHARED.contains(size)), "{name}: {elsewhere:?}\n{outcome}");
        let count = |kib: u64| here.iter().filter(|range| range.end - range.start == kib << 10).count();
        // Heap, stack, program, environment and page tables.
        assert!(here.len() >= 5 && count(if name == "far" { 640 } else { 256 }) == 1, "{name}: {here:?}\n{outcome}");
        assert_eq!(count(192), usize::from(name == "far") * common, "{name}: {here:?}");
    }
}

#[test]
fn who_cannot_have_its_node_is_refused_and_the_others_run() {
    if !has(Backend::Qemu) {
        return;
    }
    run("tests/manifests/nodes-full.toml", Backend::Qemu, &[])
        .expect_status(0)
        .expect_in_order(&[
            "bulkhead: cannot run partition large: its memory is to come from NUMA node 0: 31744 KiB of it are not free in one piece",
            "steady| 1 s since start",
        ])
        .expect_absent("large|");
    let refused =
        ["placed", "sharer"].map(|name| format!("cannot run partition {name}: its memory is to come from NUMA node 5"));
    let told = |serial: &str, why: &str| refused.iter().all(|line| serial.contains(&format!("{line}: {why}")));
    let outcome = run("tests/manifests/nodes-absent.toml", Backend::Qemu, &[]).expect_status(0);
    assert!(told(&outcome.serial, "the machine's firmware describes no nodes (ACPI table SRAT)"), "{outcome}");

    // The same image on a machine that has other nodes.
    let _turn = turn();
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../systems/nodes-absent");
    let node = |cpus: &[u32]| NumaNode { memory_mib: 64, cpus: cpus.to_vec() };
    let run = Run {
        image: directory.join("image.iso"),
        backend: Backend::Qemu,
        cpu_model: None,
        cpus: 1,
        memory_mib: 128,
        disk: None,
        devices: Vec::new(),
        iommu: false,
        nodes: vec![node(&[0]), node(&[])],
        timeout: Some(Duration::from_secs(60)),
        directory: directory.join("other-nodes"),
    };
    let report = run.execute(Input::None, &mut |_| {}).expect("the emulator starts");
    let serial = String::from_utf8_lossy(&report.serial);
    assert!(told(&serial, "the machine has no memory on such a node") && serial.contains("end: ok"), "{serial}");
}
