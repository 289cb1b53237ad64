//! What a manifest says, as far as a picture of it shows it: who there is, and what they share, with its directions.
//!
//! This is a view of the model, for reading. It knows no places in the file, and nothing that the compiler chooses.

mod links;
mod subjects;

use crate::{
    Diagnostic,
    model::{EndCondition, Flow, Manifest},
    read::{show_size, show_time},
};

/// A manifest without errors, as a picture shows it.
#[derive(Debug, Clone)]
pub struct Picture {
    /// The system's name.
    pub name: String,
    /// What it counts on and when it ends, in words.
    pub machine: Vec<String>,
    /// Partitions, then guests, each in the order of the file.
    pub subjects: Vec<Subject>,
    /// What they share, in the order of the file.
    pub links: Vec<Link>,
    /// Devices that the manifest describes and nobody has.
    pub unowned: Vec<Device>,
    /// Flows of information that must not be.
    pub denied: Vec<Direction>,
    /// What `check` warns of.
    pub warnings: Vec<Diagnostic>,
}

/// A partition or a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Its name.
    pub name: String,
    /// Which of both.
    pub kind: SubjectKind,
    /// Its program, or what a guest starts.
    pub runs: String,
    /// Its memory, in words.
    pub memory: Vec<String>,
    /// What else the manifest says of it, in words, if it is not the usual.
    pub facts: Vec<String>,
    /// Short marks: what the manifest's policy says of it.
    pub badges: Vec<String>,
    /// The CPU of each of its threads, first thread first.
    pub cpus: Vec<u64>,
    /// Its priority on each of them.
    pub priority: u64,
    /// Its limit on each of them.
    pub budget: Option<Budget>,
    /// When it runs on CPUs that have a major frame.
    pub slots: Vec<Slot>,
    /// What it owns.
    pub devices: Vec<Device>,
    /// Whom a switch lets talk to whom.
    pub rules: Vec<Direction>,
    /// The partition that shows its text, an index in [`Picture::subjects`].
    pub console: Option<usize>,
}

/// Partition or guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubjectKind {
    /// A native program.
    Partition,
    /// A virtual machine.
    Guest,
}

/// At most so much time in each period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// The time, in microseconds.
    pub budget_us: u64,
    /// The period, in microseconds.
    pub period_us: u64,
}

/// A part of a CPU's major frame; all times in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// The CPU.
    pub cpu: u64,
    /// The frame's length.
    pub frame_us: u64,
    /// From the frame's beginning to the slot's.
    pub start_us: u64,
    /// To its end.
    pub end_us: u64,
    /// It is a gap between windows, for all who have none.
    pub is_gap: bool,
}

impl Slot {
    /// The frame's length in words.
    pub fn frame(&self) -> String {
        show_time(self.frame_us)
    }

    /// The slots' length together, and the frame's, in words.
    pub fn total(slots: &[Self]) -> String {
        let total = slots.iter().map(|slot| slot.end_us - slot.start_us).sum();
        Budget { budget_us: total, period_us: slots.first().map_or(0, |slot| slot.frame_us) }.to_string()
    }
}

impl std::fmt::Display for Budget {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} of {}", show_time(self.budget_us), show_time(self.period_us))
    }
}

/// A device of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// What it is, if its name does not say that; in words.
    pub what: Vec<String>,
}

/// Something that partitions and guests share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// What it is.
    pub kind: LinkKind,
    /// Its name; a disk or card has one only if its owner has several.
    pub name: String,
    /// What else is said of it, in words.
    pub details: Vec<String>,
    /// Who shares it.
    pub ends: Vec<LinkEnd>,
}

/// What can be shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkKind {
    /// Memory and a signal each way, or one way.
    Channel,
    /// Calls of clients to a server.
    Endpoint,
    /// Memory.
    Memory,
    /// A disk of a guest or of a native partition, and its service.
    Disk,
    /// A network card of a guest, and its switch.
    Card,
}

/// One of those who share something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkEnd {
    /// Who, an index in [`Picture::subjects`].
    pub subject: usize,
    /// Whether it hears something by this: an arrow leads to it.
    pub hears: bool,
    /// Whether it serves the others.
    pub serves: bool,
}

/// From whom to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Direction {
    /// From whom.
    pub from: String,
    /// To whom.
    pub to: String,
    /// And back.
    pub both_ways: bool,
}

impl std::fmt::Display for Direction {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} {} {}", self.from, if self.both_ways { "↔" } else { "→" }, self.to)
    }
}

impl Direction {
    fn parse(text: &str) -> Option<Self> {
        let Flow { from, to, both_ways } = Flow::parse(text)?;
        Some(Self { from: from.to_owned(), to: to.to_owned(), both_ways })
    }
}

impl Picture {
    pub(crate) fn new(manifest: &Manifest, warnings: Vec<Diagnostic>) -> Self {
        let owned = |name: &str| {
            let owners = manifest.partitions.iter().flat_map(|partition| &partition.devices);
            owners.into_iter().any(|device| device.value == name)
        };
        let described = manifest.machine.devices.iter().filter(|device| device.span.is_some());
        Self {
            name: manifest.system.name.value.clone(),
            machine: machine(manifest),
            subjects: manifest.subjects().map(|subject| subjects::subject(manifest, subject)).collect(),
            links: links::links(manifest),
            unowned: described
                .filter(|device| !owned(&device.name))
                .map(|device| subjects::device(manifest, device))
                .collect(),
            denied: manifest.policy.deny.iter().filter_map(|rule| Direction::parse(&rule.value)).collect(),
            warnings,
        }
    }
}

fn machine(manifest: &Manifest) -> Vec<String> {
    let machine = &manifest.machine;
    let cpus = machine.cpus.value;
    let mut words = vec![format!("{cpus} CPU{}", if cpus == 1 { "" } else { "s" }), show_size(machine.memory.value)];
    if machine.iommu {
        words.push("IOMMU".to_owned());
    }
    words.push(match &manifest.system.end.value {
        EndCondition::GuestsOff => ends_with_all(manifest),
        EndCondition::Never => "does not end".to_owned(),
        EndCondition::Partition(name) => format!("ends when {} has finished", name.value),
        EndCondition::AfterMicroseconds(time) => format!("ends after {}", show_time(*time)),
    });
    words
}

/// How many names a line bears.
const MOST_NAMES: usize = 4;

fn ends_with_all(manifest: &Manifest) -> String {
    let must_finish = manifest.subjects().filter(|subject| subject.must_finish());
    let names: Vec<_> = must_finish.map(|subject| subject.name().value.as_str()).collect();
    match names.as_slice() {
        [name] => format!("ends when {name} has finished"),
        [names @ .., last] if names.len() < MOST_NAMES => {
            format!("ends when {} and {last} have finished", names.join(", "))
        }
        _ => "ends when all that must finish have finished".to_owned(),
    }
}
