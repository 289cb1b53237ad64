//! What a picture of a manifest shows.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use bulkhead_manifest::{
    Picture,
    picture::{Link, LinkKind},
};
use support::{World, root};

fn pictured(text: &str) -> Picture {
    let world = World::new();
    let path = world.manifest(text);
    let picture = world.with_options(|options| bulkhead_manifest::picture(&path, options));
    picture.unwrap_or_else(|errors| panic!("{}", bulkhead_manifest::render_plain(&errors)))
}

/// Who shares something, and who of them hears something by it.
fn ends<'p>(picture: &'p Picture, link: &Link) -> Vec<(&'p str, bool)> {
    link.ends.iter().map(|end| (picture.subjects[end.subject].name.as_str(), end.hears)).collect()
}

#[test]
fn the_default_manifest() {
    let text = std::fs::read_to_string(root().join("partitions/default.toml")).unwrap();
    let picture = pictured(&text);
    assert_eq!(picture.machine, ["2 CPUs", "512 MiB", "ends when linux-a and linux-b have finished"]);
    let names: Vec<_> = picture.subjects.iter().map(|subject| subject.name.as_str()).collect();
    assert_eq!(names, ["console", "block", "hello", "linux-a", "linux-b"]);
    let block = &picture.subjects[1];
    assert_eq!(block.memory, ["256 KiB", "64 KiB DMA"]);
    assert_eq!(
        (block.devices[0].name.as_str(), block.devices[0].what.as_slice()),
        ("ide0", &["64 MiB".to_owned()][..])
    );
    let linux = &picture.subjects[4];
    assert_eq!((linux.runs.as_str(), linux.cpus.as_slice()), ("linux-image-cloud-amd64", &[1][..]));
    assert_eq!(linux.budget.unwrap().to_string(), "5 ms of 10 ms");
    assert_eq!(linux.console, Some(0));
    let disks: Vec<_> = picture.links.iter().map(|link| (link.kind, ends(&picture, link))).collect();
    let disk = |guest| (LinkKind::Disk, vec![(guest, true), ("block", true)]);
    assert_eq!(disks, [disk("linux-a"), disk("linux-b")]);
    assert_eq!(picture.warnings.len(), 1);
}

#[test]
fn arrows_lead_to_whoever_hears() {
    let picture = pictured(
        r#"
[system]
end = "never"
[machine]
memory = "512 MiB"
disk = "1 MiB"
[partition.block]
program = "block"
devices = ["ide0"]
[memory.dma]
partitions = ["block"]
size = "64 KiB"
dma = true
[partition.one]
program = "hello"
[partition.two]
program = "hello"
[partition.lan]
program = "switch"
[switch.lan]
allow = ["red -> blue", "green <-> red"]
[endpoint.calls]
server = "one"
clients = ["two"]
[memory.table]
partitions = ["one", "two"]
size = "4 KiB"
read_only = true
[guest.red]
memory = "96 MiB"
kernel = "debian:linux-image-cloud-amd64"
[[guest.red.network]]
switch = "lan"
[[guest.red.disk]]
service = "block"
size = "1 MiB"
read_only = true
[guest.blue]
memory = "96 MiB"
kernel = "debian:linux-image-cloud-amd64"
[[guest.blue.network]]
switch = "lan"
[guest.green]
memory = "96 MiB"
kernel = "debian:linux-image-cloud-amd64"
[[guest.green.network]]
switch = "lan"
vlan = 7
[policy]
deny = ["one -> red"]
trusted = ["lan"]
"#,
    );
    let shown: Vec<_> = picture.links.iter().map(|link| (link.kind, ends(&picture, link))).collect();
    let expected = [
        (LinkKind::Endpoint, vec![("one", true), ("two", false)]),
        (LinkKind::Memory, vec![("one", false), ("two", false)]),
        (LinkKind::Disk, vec![("red", true), ("block", false)]),
        (LinkKind::Card, vec![("red", false), ("lan", true)]),
        (LinkKind::Card, vec![("blue", true), ("lan", false)]),
        // Its line in `allow` is of no use across VLANs.
        (LinkKind::Card, vec![("green", false), ("lan", false)]),
    ];
    assert_eq!(shown, expected);
    let details: Vec<_> = picture.links.iter().map(|link| link.details.join(" ")).collect();
    assert_eq!(details, ["", "4 KiB read-only", "1 MiB read-only", "", "", "VLAN 7 reaches nobody"]);
    assert_eq!(picture.denied[0].to_string(), "one → red");
    let trusted: Vec<_> = picture.subjects.iter().filter(|subject| !subject.badges.is_empty()).collect();
    assert_eq!(trusted[0].name, "lan");
    assert!(picture.subjects.iter().all(|subject| subject.console.is_none()));
}

#[test]
fn channels_of_one_way_and_disks_of_everybody() {
    let picture = pictured(
        r#"
[system]
end = "never"
[machine]
iommu = true
[machine.device.disk]
model = "nvme"
disk = "8 MiB"
[partition.block]
program = "nvme"
devices = ["disk"]
[memory.dma]
partitions = ["block"]
size = "512 KiB"
dma = true
[partition.client]
program = "drivecheck"
[[partition.client.disk]]
service = "block"
size = "1 MiB"
[[partition.client.disk]]
service = "block"
offset = "1 MiB"
size = "1 MiB"
read_only = true
[channel.both]
between = { first = "block", second = "client" }
[channel.reports]
between = { first = "client", second = "block" }
direction = "first to second"
[guest.linux]
memory = "96 MiB"
kernel = "debian:linux-image-cloud-amd64"
[[guest.linux.disk]]
service = "block"
offset = "2 MiB"
size = "2 MiB"
data = "copy"
[[guest.linux.disk]]
service = "block"
offset = "4 MiB"
size = "2 MiB"
data = "shared"
"#,
    );
    let shown: Vec<_> = picture.links.iter().map(|link| (link.name.as_str(), ends(&picture, link))).collect();
    let expected = [
        ("both", vec![("block", true), ("client", true)]),
        ("reports", vec![("client", false), ("block", true)]),
        ("0", vec![("client", true), ("block", true)]),
        ("1", vec![("client", true), ("block", false)]),
        ("0", vec![("linux", true), ("block", true)]),
        ("1", vec![("linux", true), ("block", true)]),
    ];
    assert_eq!(shown, expected);
    let details: Vec<_> = picture.links.iter().skip(2).map(|link| link.details.join(" ")).collect();
    assert_eq!(details, ["1 MiB", "1 MiB read-only", "2 MiB copied", "2 MiB"]);
}
