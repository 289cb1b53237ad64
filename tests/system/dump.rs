//! The capabilities that init prints with `dump = true`, and who can influence whom by them.
//!
//! Init is left out as one who influences and is influenced: it made everything, shares a page with each partition, and is trusted.

use std::collections::{BTreeMap, BTreeSet};

use bulkhead_abi::{ObjectType, Rights};

/// A capability, or a mapping that init made with one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capability {
    pub slot: u64,
    pub object: ObjectType,
    pub rights: Rights,
    pub badge: u64,
    /// First unit of a range, or generation of the object.
    pub identity: u64,
    pub size: u64,
    /// Generation of the partition or guest space in which it is mapped.
    pub space: u64,
    pub mapped: Rights,
    /// How often its first page is mapped.
    pub mappings: u32,
}

/// A partition's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub name: String,
    pub generation: u64,
    pub capabilities: Vec<Capability>,
}

/// A directed way for information, and the kind of thing that makes it.
pub type Way = (String, String, &'static str);

const KERNELS: u32 = u32::MAX;
const NO_RAM: u32 = u32::MAX - 1;

/// The tables of the dump that was made at this moment.
pub fn tables(lines: &[&str], when: &str) -> Vec<Table> {
    let begin = lines.iter().position(|line| *line == format!("cap begin {when}")).expect("there is such a dump");
    let length = lines[begin..].iter().position(|line| line.starts_with("cap end")).expect("the dump has an end");
    let mut tables: Vec<Table> = Vec::new();
    for line in &lines[begin + 1..begin + length] {
        let mut words = line.split(' ');
        assert_eq!(words.next(), Some("cap"), "a line within the dump: {line}");
        let name = words.next().expect("a name");
        let number = |word: Option<&str>, radix| u64::from_str_radix(word.expect(line), radix).expect(line);
        if name == "partition" {
            let name = words.next().expect(line).to_owned();
            tables.push(Table { name, generation: number(words.next(), 16), capabilities: Vec::new() });
            continue;
        }
        let table = tables.last_mut().filter(|table| table.name == name).expect(line);
        let slot = number(words.next(), 10);
        let [object, rights, badge, identity, size, space, mapped, mappings] =
            std::array::from_fn(|_| number(words.next(), 16));
        table.capabilities.push(Capability {
            slot,
            object: ObjectType::from_number(object).expect(line),
            rights: Rights::from_bits(rights as u16).expect(line),
            badge,
            identity,
            size,
            space,
            mapped: Rights::from_bits_truncate(mapped as u16),
            mappings: mappings as u32,
        });
    }
    tables
}

/// Something that a partition can get at.
struct Reach<'a> {
    who: &'a str,
    object: ObjectType,
    rights: Rights,
    first: u64,
    end: u64,
}

/// What everybody but init can get at: by a capability, or because init mapped it for them.
fn reaches(tables: &[Table]) -> Vec<Reach<'_>> {
    // A guest's memory is reached by its partition, the guest's monitor.
    let mut owners: BTreeMap<u64, &str> = BTreeMap::new();
    for table in tables.iter().filter(|table| table.name != "init") {
        owners.insert(table.generation, &table.name);
        for space in table.capabilities.iter().filter(|one| one.object == ObjectType::GuestSpace) {
            owners.insert(space.identity, &table.name);
        }
    }
    let mut reaches = Vec::new();
    for table in tables {
        for one in &table.capabilities {
            let is_range = matches!(one.object, ObjectType::Memory | ObjectType::IoPorts | ObjectType::Interrupt);
            let end = one.identity + if is_range { one.size } else { 1 };
            let reach = |who, rights| Reach { who, object: one.object, rights, first: one.identity, end };
            // Memory that was donated to a space is the kernel's.
            if let Some(owner) = owners.get(&one.space).filter(|_| one.mappings != KERNELS) {
                let is_memory = one.object == ObjectType::Memory;
                reaches.push(reach(*owner, if is_memory { one.mapped } else { Rights::READ | Rights::WRITE }));
            }
            if table.name != "init" {
                reaches.push(reach(table.name.as_str(), one.rights));
            }
        }
    }
    reaches
}

/// How one who has a capability influences another who has one to the same: kind, and whether so.
fn influence(one: &Reach<'_>, other: &Reach<'_>) -> Option<&'static str> {
    let (from, to) = (one.rights, other.rights);
    let kind = |holds: bool, kind| holds.then_some(kind);
    match one.object {
        ObjectType::Memory => kind(from.contains(Rights::WRITE) && to.contains(Rights::READ), "memory"),
        ObjectType::Notification => kind(from.contains(Rights::SIGNAL) && to.contains(Rights::WAIT), "signal"),
        // Both the call and its reply carry words.
        ObjectType::Endpoint => {
            let calls = from.contains(Rights::CALL) && to.contains(Rights::RECEIVE);
            kind(calls || (from.contains(Rights::RECEIVE) && to.contains(Rights::CALL)), "call")
        }
        ObjectType::IoPorts => Some("ports"),
        ObjectType::Interrupt => Some("interrupt"),
        // Whoever has anything of another's is in control of it.
        _ => Some("control"),
    }
}

/// Every way for information between partitions that the tables imply.
pub fn ways(tables: &[Table]) -> BTreeSet<Way> {
    let reaches = reaches(tables);
    let mut ways = BTreeSet::new();
    for one in &reaches {
        let others = reaches.iter().filter(|other| other.who != one.who && other.object == one.object);
        for other in others.filter(|other| one.first < other.end && other.first < one.end) {
            ways.extend(influence(one, other).map(|kind| (one.who.to_owned(), other.who.to_owned(), kind)));
        }
    }
    // A partition that has a capability to another one.
    for table in tables.iter().filter(|table| table.name != "init") {
        for one in table.capabilities.iter().filter(|one| one.object == ObjectType::Partition) {
            let of = tables.iter().find(|other| other.generation == one.identity && other.name != table.name);
            ways.extend(of.map(|of| (table.name.clone(), of.name.clone(), "control")));
        }
    }
    ways
}

/// How many ranges of memory, endpoints and signals lead from one to another.
pub fn counts(tables: &[Table], from: &str, to: &str) -> [usize; 3] {
    let reaches = reaches(tables);
    let shared = |object: ObjectType| {
        let pairs = reaches.iter().filter(|one| one.who == from && one.object == object).flat_map(|one| {
            let others = reaches.iter().filter(|other| other.who == to && other.object == object);
            others.filter(move |other| one.first == other.first && influence(one, other).is_some())
        });
        pairs.map(|other| other.first).collect::<BTreeSet<_>>().len()
    };
    let table = tables.iter().find(|table| table.name == from).expect("there is such a partition");
    let peer = tables.iter().find(|table| table.name == to).expect("there is such a partition");
    let own = |one: &&Capability| one.object == ObjectType::Notification && one.rights.contains(Rights::WAIT);
    let waits: Vec<u64> = peer.capabilities.iter().filter(own).map(|one| one.identity).collect();
    let signals = table.capabilities.iter().filter(|one| {
        one.object == ObjectType::Notification && waits.contains(&one.identity) && one.rights == Rights::SIGNAL
    });
    let badges: BTreeSet<u64> = signals.map(|one| one.badge).collect();
    assert!(badges.iter().all(|badge| badge.is_power_of_two()), "{from} signals {to} with one bit each");
    [shared(ObjectType::Memory), shared(ObjectType::Endpoint), badges.len()]
}

/// Checks the kernel's account of mappings: the first page of each range is mapped as often as capabilities say.
pub fn check_account(tables: &[Table]) {
    let all = || tables.iter().flat_map(|table| &table.capabilities).filter(|one| one.object == ObjectType::Memory);
    let mapped: Vec<_> = all().filter(|one| one.space != 0 && one.mappings != KERNELS).collect();
    for one in all().filter(|one| one.mappings < NO_RAM) {
        let covers = |other: &&&Capability| (other.identity..other.identity + other.size).contains(&one.identity);
        assert_eq!(mapped.iter().filter(covers).count(), one.mappings as usize, "{one:x?}");
    }
}
