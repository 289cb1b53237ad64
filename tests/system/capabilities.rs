//! The sealed kernel's capabilities are those that the manifest implies, edge for edge.

use std::collections::BTreeSet;

use bulkhead_abi::{ObjectType, Rights};
use bulkhead_harness::Backend;
use bulkhead_manifest::Options;

use crate::dump::{self, Table, Way};
use crate::machine::{Outcome, has, path, run};

/// The ways that a manifest implies. What guests may send each other is up to their switch, which is a way from and to each of them.
fn implied(manifest: &str) -> (BTreeSet<Way>, Vec<(String, String, String)>) {
    let edges = bulkhead_manifest::flows(&path(manifest), &Options::default())
        .unwrap_or_else(|errors| panic!("{}", bulkhead_manifest::render_plain(&errors)));
    let mut ways = BTreeSet::new();
    let mut shared = Vec::new();
    for edge in edges {
        let what = edge.by.split(' ').next().unwrap_or_default();
        let kinds: &[&'static str] = match what {
            "channel" | "a" | "its" => &["memory", "signal"],
            "endpoint" => &["call"],
            "memory" => &["memory"],
            "ports" => &["ports"],
            "switch" => continue,
            _ => panic!("an edge of another kind: {edge:?}"),
        };
        ways.extend(kinds.iter().map(|kind| (edge.from.clone(), edge.to.clone(), *kind)));
        shared.push((edge.from, edge.to, what.to_owned()));
    }
    (ways, shared)
}

/// Compares what the kernel has with what the manifest implies, in both directions.
fn compare(outcome: &Outcome, manifest: &str, natives: &[&str]) -> Vec<Table> {
    let lines = outcome.lines_of("init");
    let tables = dump::tables(&lines, "after the seal");
    let (implied, shared) = implied(manifest);
    let found = dump::ways(&tables);
    assert_eq!(found.difference(&implied).collect::<Vec<_>>(), Vec::<&Way>::new(), "the manifest does not say so");
    assert_eq!(implied.difference(&found).collect::<Vec<_>>(), Vec::<&Way>::new(), "the kernel does not have it");
    // Between native partitions each line of the manifest is one thing.
    for from in natives {
        for to in natives.iter().filter(|to| *to != from) {
            let count = |kinds: &[&str]| {
                shared
                    .iter()
                    .filter(|(one, other, what)| one == from && other == to && kinds.contains(&what.as_str()))
                    .count()
            };
            let expected = [count(&["channel", "its", "memory"]), count(&["endpoint"]), count(&["channel", "its"])];
            assert_eq!(dump::counts(&tables, from, to), expected, "memory, endpoints and signals from {from} to {to}");
        }
    }
    dump::check_account(&tables);
    check_init(&tables);
    let end = dump::tables(&lines, "at the end");
    dump::check_account(&end);
    assert_eq!(lines.iter().filter(|line| line.starts_with("cap end 0 contradictions")).count(), 2, "{outcome}");
    tables
}

/// Nobody but init can make or change anything: no rights to create, to control a partition or a share of time.
fn check_init(tables: &[Table]) {
    for table in tables {
        for one in &table.capabilities {
            let is_init = table.name == "init";
            let is_root = one.object == ObjectType::Memory && one.rights.contains(Rights::CREATE);
            // Pools were donated: their memory is the kernel's.
            assert!(!is_root || (is_init && one.mappings == u32::MAX && one.space != 0), "{}: {one:x?}", table.name);
            let rules = matches!(one.object, ObjectType::Partition | ObjectType::Window);
            assert!(!rules || is_init, "{}: {one:x?}", table.name);
            let is_device = matches!(one.object, ObjectType::IoPorts | ObjectType::Interrupt);
            assert!(!(is_device && is_init) || one.size <= 32, "init has kept a root: {one:x?}");
        }
    }
}

/// Has the last partition signal the block service.
fn add_a_signal(tables: &mut [Table]) {
    let waits = |one: &&dump::Capability| one.rights.contains(Rights::WAIT);
    let found = tables[3].capabilities.iter().find(waits).expect("it has a notification").clone();
    let last = tables.last_mut().expect("there are partitions");
    last.capabilities.push(dump::Capability { slot: 30, rights: Rights::SIGNAL, ..found });
}

#[test]
fn capabilities_of_native_partitions_are_those_of_the_manifest() {
    if !has(Backend::Qemu) {
        return;
    }
    let manifest = "tests/manifests/capabilities.toml";
    let outcome = run(manifest, Backend::Qemu, &[]).expect_status(0);
    let natives = ["bus", "console", "block", "probe", "first", "second", "third", "mute"];
    let tables = compare(&outcome, manifest, &natives);
    let names: Vec<_> = tables.iter().map(|table| table.name.as_str()).collect();
    assert_eq!(names[1..], natives);
    // One capability more or less is seen.
    for change in [add_a_signal as fn(&mut [Table]), |tables| tables[8].capabilities.retain(|one| one.slot != 10)] {
        let mut changed = tables.clone();
        change(&mut changed);
        assert_ne!(dump::ways(&changed), dump::ways(&tables));
    }
    // Programs without a use for it have changed nothing.
    assert_eq!(dump::tables(&outcome.lines_of("init"), "at the end"), tables, "{outcome}");
}

#[test]
fn capabilities_of_guests_are_those_of_the_manifest() {
    if !has(Backend::Bochs) {
        return;
    }
    let manifest = "tests/manifests/capabilities-guests.toml";
    let outcome = run(manifest, Backend::Bochs, &["--cpus", "2"]).expect_status(0);
    compare(&outcome, manifest, &["console", "block", "lan", "hello"]);
}
