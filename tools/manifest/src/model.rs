//! What a manifest says, with the place of each value.
//!
//! A value that is missing or that could not be read is `None` here: it has been reported, and checks pass over it.

mod added;
mod frame;
mod msr;
mod network;

pub(crate) use added::{TRACE, Trace};
pub(crate) use frame::{Frame, FrameWindow, MIN_WINDOW_US};
pub(crate) use msr::{Msr, MsrRead};
pub(crate) use network::{Flow, Network, Switch, parse_mac};

use crate::{diagnostic::Span, machine::Device};
use bulkhead_plan::Fault;
use bulkhead_plan::layout;

/// Most memory for the shadow tables of a guest: with its page tables it is given to the kernel as one piece of at most 16 MiB.
pub(crate) const MAX_SHADOW_MEMORY: u64 = 12 << 20;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Located<T> {
    pub(crate) value: T,
    pub(crate) span: Span,
}

impl<T> Located<T> {
    pub(crate) fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
}

/// A whole manifest.
#[derive(Debug)]
pub(crate) struct Manifest {
    pub(crate) system: System,
    pub(crate) machine: Machine,
    pub(crate) partitions: Vec<Partition>,
    pub(crate) guests: Vec<Guest>,
    pub(crate) channels: Vec<Channel>,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) memories: Vec<Memory>,
    pub(crate) switches: Vec<Switch>,
    pub(crate) policy: Policy,
    pub(crate) frames: Vec<Frame>,
    pub(crate) trace: Option<Trace>,
}

/// `[policy]`.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    /// Flows of information that must not be, as in `A -> B`.
    pub(crate) deny: Vec<Located<String>>,
    /// Partitions and guests that pass on nothing that they hear, or only what they should.
    pub(crate) trusted: Vec<Located<String>>,
    /// Names of levels, from the lowest to the highest: information flows up.
    pub(crate) levels: Vec<Located<String>>,
}

/// `[system]`.
#[derive(Debug)]
pub(crate) struct System {
    pub(crate) name: Located<String>,
    pub(crate) end: Located<EndCondition>,
    /// Init prints the capabilities of all partitions.
    pub(crate) dump: bool,
}

/// `system.end`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EndCondition {
    GuestsOff,
    Never,
    Partition(Located<String>),
    AfterMicroseconds(u64),
}

/// `[machine]`.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) cpus: Located<u64>,
    pub(crate) memory: Located<u64>,
    pub(crate) disk: Option<Located<u64>>,
    pub(crate) iommu: bool,
    /// NUMA nodes, by number; none if nothing is said of them.
    pub(crate) nodes: Vec<Node>,
    pub(crate) devices: Vec<Device>,
}

/// `[[machine.node]]`.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) memory: Option<Located<u64>>,
    pub(crate) cpus: Vec<Located<u64>>,
}

/// Share of a CPU that a partition or guest asks for.
#[derive(Debug)]
pub(crate) struct Schedule {
    pub(crate) priority: Located<u64>,
    pub(crate) budget_us: Option<Located<u64>>,
    pub(crate) period_us: Option<Located<u64>>,
}

/// `restart`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Restart {
    Never,
    Always,
    Limit(u64),
}

/// `restart`: the policy, and how long the partition stays stopped at first.
#[derive(Debug, Clone)]
pub(crate) struct RestartRule {
    pub(crate) policy: Restart,
    pub(crate) backoff_us: Option<Located<u64>>,
}

impl From<Restart> for RestartRule {
    fn from(policy: Restart) -> Self {
        Self { policy, backoff_us: None }
    }
}

/// `inject`: a fault, to try what then happens.
#[derive(Debug)]
pub(crate) struct Inject {
    pub(crate) span: Span,
    pub(crate) fault: Fault,
    pub(crate) after_us: u64,
    pub(crate) every_us: u64,
    pub(crate) times: u64,
}

/// `console`: which service shows a partition's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Console {
    /// Not said: the partition `console`, if there is one.
    Default,
    /// `false`.
    Off,
    /// A partition.
    Named(Located<String>),
}

/// `[partition.NAME]`.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) name: Located<String>,
    pub(crate) program: Option<Located<String>>,
    pub(crate) cpu: Located<u64>,
    pub(crate) schedule: Schedule,
    pub(crate) heap: Located<u64>,
    /// NUMA node of all its memory.
    pub(crate) node: Option<Located<u64>>,
    pub(crate) stack: Located<u64>,
    pub(crate) devices: Vec<Located<String>>,
    pub(crate) restart: RestartRule,
    pub(crate) watchdog_us: Option<Located<u64>>,
    pub(crate) inject: Option<Inject>,
    pub(crate) console: Console,
    pub(crate) must_finish: bool,
    pub(crate) level: Option<Located<String>>,
    /// It has capabilities to itself and to its memory.
    pub(crate) capabilities: bool,
    pub(crate) settings: Vec<(Located<String>, String)>,
    pub(crate) disks: Vec<Disk>,
    /// The manifest has no table for it: the compiler adds it.
    pub(crate) is_added: bool,
}

impl Partition {
    /// One that a manifest has without a table of its own; its name is that of its program.
    fn added(name: &str, priority: u64, span: Span) -> Self {
        let number = |value| Located::new(value, span.clone());
        let name = Located::new(name.to_owned(), span.clone());
        Self {
            program: Some(name.clone()),
            name,
            cpu: number(0),
            schedule: Schedule { priority: number(priority), budget_us: None, period_us: None },
            heap: number(64 << 10),
            node: None,
            stack: number(layout::STACK_BYTES),
            devices: Vec::new(),
            restart: Restart::Never.into(),
            watchdog_us: None,
            inject: None,
            console: Console::Default,
            must_finish: false,
            level: None,
            capabilities: false,
            settings: Vec::new(),
            disks: Vec::new(),
            is_added: true,
        }
    }
}

/// `[guest.NAME]`.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) name: Located<String>,
    pub(crate) memory: Option<Located<u64>>,
    /// NUMA node of its RAM, and of all memory of its monitor.
    pub(crate) node: Option<Located<u64>>,
    pub(crate) cpus: Vec<Located<u64>>,
    pub(crate) cpus_span: Span,
    pub(crate) schedule: Schedule,
    /// Program that runs it instead of the vmm.
    pub(crate) monitor: Option<Located<String>>,
    pub(crate) kernel: Option<Located<String>>,
    pub(crate) initrd: Option<Located<String>>,
    pub(crate) command_line: Option<Located<String>>,
    pub(crate) firmware: Option<Located<String>>,
    pub(crate) hpet: bool,
    /// Features that its processors are not to have.
    pub(crate) without: Vec<Located<String>>,
    /// Model-specific registers of which the manifest says what accesses do.
    pub(crate) msrs: Vec<Msr>,
    pub(crate) statistics: bool,
    pub(crate) paging: Option<Located<String>>,
    pub(crate) shadow_memory: Located<u64>,
    pub(crate) restart: RestartRule,
    pub(crate) watchdog_us: Option<Located<u64>>,
    pub(crate) inject: Option<Inject>,
    pub(crate) console: Console,
    pub(crate) must_finish: bool,
    pub(crate) level: Option<Located<String>>,
    pub(crate) monitor_memory: Located<u64>,
    pub(crate) disks: Vec<Disk>,
    pub(crate) networks: Vec<Network>,
}

/// Heap of a guest's monitor, unless the manifest says otherwise, in bytes: for itself, and for each disk whose data it copies.
pub(crate) fn monitor_heap(disks: &[Disk]) -> u64 {
    const ITSELF: u64 = 1 << 20;
    const COPIED_DISK: u64 = 256 << 10;
    ITSELF + COPIED_DISK * disks.iter().filter(|disk| disk.is_copied).count() as u64
}

/// `[[guest.NAME.disk]]` or `[[partition.NAME.disk]]`.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) span: Span,
    pub(crate) service: Option<Located<String>>,
    pub(crate) offset: Located<u64>,
    pub(crate) size: Option<Located<u64>>,
    pub(crate) read_only: bool,
    pub(crate) data: Option<Located<String>>,
    /// The service sees memory for this disk alone, and not the guest's; always so for a native partition.
    pub(crate) is_copied: bool,
    /// Bits of the plan's entry for what is withheld.
    pub(crate) withheld: u64,
    /// The guest has a control channel to its service.
    pub(crate) control: bool,
}

/// `[channel.NAME]`.
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) name: Located<String>,
    pub(crate) first: Option<Located<String>>,
    pub(crate) second: Option<Located<String>>,
    pub(crate) memory: Located<u64>,
    pub(crate) kind: Option<Located<String>>,
    pub(crate) direction: Option<Located<String>>,
}

/// `direction` of a channel whose second end only receives.
pub(crate) const ONE_WAY: &str = "first to second";

impl Channel {
    /// Nothing flows from its second end to the first.
    pub(crate) fn is_one_way(&self) -> bool {
        self.direction.as_ref().is_some_and(|direction| direction.value == ONE_WAY)
    }
}

/// `[endpoint.NAME]`.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) name: Located<String>,
    pub(crate) server: Option<Located<String>>,
    pub(crate) clients: Option<Vec<Located<String>>>,
    /// Longest that the server takes for a call.
    pub(crate) worst_case_us: Option<Located<u64>>,
}

/// `[memory.NAME]`.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) name: Located<String>,
    pub(crate) partitions: Option<Vec<Located<String>>>,
    pub(crate) size: Option<Located<u64>>,
    pub(crate) physical: Option<Located<u64>>,
    /// NUMA node.
    pub(crate) node: Option<Located<u64>>,
    pub(crate) address: Option<Located<u64>>,
    pub(crate) read_only: bool,
    pub(crate) dma: bool,
}

impl Endpoint {
    /// The partitions that call it.
    pub(crate) fn clients(&self) -> &[Located<String>] {
        self.clients.as_deref().unwrap_or_default()
    }
}

impl Memory {
    /// The partitions that have it.
    pub(crate) fn partitions(&self) -> &[Located<String>] {
        self.partitions.as_deref().unwrap_or_default()
    }
}

/// A partition or a guest, as far as both are alike.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Subject<'a> {
    Partition(&'a Partition),
    Guest(&'a Guest),
}

impl<'a> Subject<'a> {
    pub(crate) fn name(self) -> &'a Located<String> {
        match self {
            Self::Partition(partition) => &partition.name,
            Self::Guest(guest) => &guest.name,
        }
    }

    pub(crate) fn schedule(self) -> &'a Schedule {
        match self {
            Self::Partition(partition) => &partition.schedule,
            Self::Guest(guest) => &guest.schedule,
        }
    }

    pub(crate) fn console(self) -> &'a Console {
        match self {
            Self::Partition(partition) => &partition.console,
            Self::Guest(guest) => &guest.console,
        }
    }

    pub(crate) fn must_finish(self) -> bool {
        match self {
            Self::Partition(partition) => partition.must_finish,
            Self::Guest(guest) => guest.must_finish,
        }
    }

    /// The NUMA node of its memory.
    pub(crate) fn node(self) -> Option<&'a Located<u64>> {
        match self {
            Self::Partition(partition) => partition.node.as_ref(),
            Self::Guest(guest) => guest.node.as_ref(),
        }
    }

    pub(crate) fn restart(self) -> &'a RestartRule {
        match self {
            Self::Partition(partition) => &partition.restart,
            Self::Guest(guest) => &guest.restart,
        }
    }

    /// Its watchdog: of a guest, its monitor's.
    pub(crate) fn watchdog_us(self) -> Option<&'a Located<u64>> {
        match self {
            Self::Partition(partition) => partition.watchdog_us.as_ref(),
            Self::Guest(guest) => guest.watchdog_us.as_ref(),
        }
    }

    /// Its level in `[policy]`.
    pub(crate) fn level(self) -> Option<&'a Located<String>> {
        match self {
            Self::Partition(partition) => partition.level.as_ref(),
            Self::Guest(guest) => guest.level.as_ref(),
        }
    }

    /// Its disks.
    pub(crate) fn disks(self) -> &'a [Disk] {
        match self {
            Self::Partition(partition) => &partition.disks,
            Self::Guest(guest) => &guest.disks,
        }
    }

    /// The CPUs of its threads, first thread first.
    pub(crate) fn cpus(self) -> &'a [Located<u64>] {
        match self {
            Self::Partition(partition) => std::slice::from_ref(&partition.cpu),
            Self::Guest(guest) => &guest.cpus,
        }
    }

    /// Whether a thread of it is on a CPU.
    pub(crate) fn runs_on(self, cpu: u64) -> bool {
        self.cpus().iter().any(|own| own.value == cpu)
    }

    /// Whether the manifest has no table for it.
    pub(crate) fn is_added(self) -> bool {
        matches!(self, Self::Partition(partition) if partition.is_added)
    }
}

impl Manifest {
    /// Partitions, then guests, each in the order of the file: the order of the plan.
    pub(crate) fn subjects(&self) -> impl Iterator<Item = Subject<'_>> {
        let partitions = self.partitions.iter().map(Subject::Partition);
        partitions.chain(self.guests.iter().map(Subject::Guest))
    }

    /// All disks, with whose they are.
    pub(crate) fn disks(&self) -> impl Iterator<Item = (Subject<'_>, &Disk)> {
        self.subjects().flat_map(|subject| subject.disks().iter().map(move |disk| (subject, disk)))
    }

    /// The partition or guest of this name.
    pub(crate) fn subject(&self, name: &str) -> Option<Subject<'_>> {
        self.subjects().find(|subject| subject.name().value == name)
    }

    /// The native partition of this name.
    pub(crate) fn partition(&self, name: &str) -> Option<&Partition> {
        self.partitions.iter().find(|partition| partition.name.value == name)
    }

    /// The endpoints of which a partition is the server.
    pub(crate) fn endpoints_served_by<'m>(&'m self, name: &str) -> impl Iterator<Item = &'m Endpoint> {
        self.endpoints
            .iter()
            .filter(move |endpoint| endpoint.server.as_ref().is_some_and(|server| server.value == name))
    }

    /// The first device of a partition that interrupts it, if it has one.
    pub(crate) fn interrupts_of<'m>(&self, partition: &'m Partition) -> Option<&'m Located<String>> {
        let interrupts = |name: &&Located<String>| {
            self.device(&name.value).is_some_and(|device| device.pci.is_some() || !device.interrupts.is_empty())
        };
        partition.devices.iter().find(interrupts)
    }

    /// The devices on the PCI bus with their owners: index in `partitions`.
    pub(crate) fn pci_devices(&self) -> impl Iterator<Item = (usize, &Device)> {
        let owned = self
            .partitions
            .iter()
            .enumerate()
            .flat_map(|(index, partition)| partition.devices.iter().map(move |name| (index, name)));
        owned.filter_map(|(index, name)| Some((index, self.device(&name.value).filter(|device| device.pci.is_some())?)))
    }

    /// Names of all partitions and guests.
    pub(crate) fn subject_names(&self) -> Vec<&str> {
        self.subjects().map(|subject| subject.name().value.as_str()).collect()
    }

    /// Names of the native partitions.
    pub(crate) fn partition_names(&self) -> Vec<&str> {
        self.partitions.iter().map(|partition| partition.name.value.as_str()).collect()
    }

    /// The native partition that shows this subject's text, if any.
    pub(crate) fn console_of(&self, subject: Subject<'_>) -> Option<&Partition> {
        let name = match subject.console() {
            Console::Off => return None,
            Console::Default => DEFAULT_CONSOLE,
            Console::Named(name) => &name.value,
        };
        self.partition(name).filter(|console| console.name.value != subject.name().value)
    }

    /// The device of this name.
    pub(crate) fn device(&self, name: &str) -> Option<&Device> {
        self.machine.devices.iter().find(|device| device.name == name)
    }
}

/// Name of the partition that shows text unless a manifest says otherwise.
pub(crate) const DEFAULT_CONSOLE: &str = "console";
