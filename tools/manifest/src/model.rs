//! What a manifest says, with the place of each value.
//!
//! A value that is missing or that could not be read is `None` here: it has been reported, and checks pass over it.

mod frame;

pub(crate) use frame::{Frame, FrameWindow, MIN_WINDOW_US};

use crate::{
    Tracing,
    diagnostic::Span,
    machine::Device,
    pci::{BUS, CONFIGURATION},
};
use bulkhead_machine::policy::listed::named;
use bulkhead_plan::Fault;
use bulkhead_plan::layout;
use std::path::PathBuf;

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

/// `[trace]`.
#[derive(Debug)]
pub(crate) struct Trace {
    /// Memory of each CPU's ring.
    pub(crate) memory: Located<u64>,
    /// Records are only counted.
    pub(crate) totals: bool,
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

/// Priority of the bus service, which runs alone, before the seal.
const BUS_PRIORITY: u64 = 20;

/// Name and program of the partition that writes out trace rings.
pub(crate) const TRACE: &str = "trace";
/// Its priority: it counts records before they are overwritten, whoever else is busy.
const TRACE_PRIORITY: u64 = 62;

/// The initial RAM disk that checks its machine, and what tells it the kernel that it is for.
const CHECKS: &str = "builtin:checks";

impl Manifest {
    /// The cards on a switch with their guests, in the order of its ports.
    pub(crate) fn ports_of<'m>(&'m self, switch: &'m str) -> impl Iterator<Item = (&'m Guest, &'m Network)> + 'm {
        let all = self.guests.iter().flat_map(|guest| guest.networks.iter().map(move |network| (guest, network)));
        all.filter(move |(_, network)| network.switch.as_ref().is_some_and(|named| named.value == switch))
    }

    /// The network card that is a switch's uplink, its last port: the first device of its partition on the PCI bus.
    pub(crate) fn uplink_of<'m>(&'m self, switch: &'m str) -> Option<&'m str> {
        let devices = self.partition(switch)?.devices.iter().map(|device| device.value.as_str());
        devices.into_iter().find(|device| self.device(device).is_some_and(|device| device.pci.is_some()))
    }

    /// The ports that the frames of a guest, or of the uplink, may go to, as bits.
    pub(crate) fn peers_of(&self, switch: &str, guest: &str) -> u16 {
        let rules = self.switches.iter().filter(|policy| policy.name.value == switch).flat_map(|policy| &policy.allow);
        let flows: Vec<_> = rules.filter_map(|rule| Flow::parse(&rule.value)).collect();
        let may = |other: &str| {
            flows.iter().any(|flow| {
                (flow.from == guest && flow.to == other) || (flow.both_ways && flow.to == guest && flow.from == other)
            })
        };
        let names = self.ports_of(switch).map(|(other, _)| other.name.value.as_str()).chain(self.uplink_of(switch));
        let ports = names.zip(0u32..16).filter(|(other, _)| may(other));
        ports.fold(0, |bits, (_, index)| bits | 1 << index)
    }

    /// The checks are for the guest's own kernel, whose modules they bring, if that is of a package.
    pub(crate) fn choose_checks(&mut self) {
        for guest in &mut self.guests {
            let kernel = guest.kernel.as_ref().and_then(|kernel| kernel.value.strip_prefix("debian:"));
            if let (Some(kernel), Some(initrd)) = (kernel, &mut guest.initrd)
                && initrd.value == CHECKS
            {
                let package = kernel.split_once('#').map_or(kernel, |(package, _)| package);
                initrd.value = format!("{CHECKS}#{package}");
            }
        }
    }

    /// Makes the paths of guests' files relative to the manifest: in a file that is included they are relative to that one.
    pub(crate) fn locate_files(&mut self, directory: impl Fn(&Span) -> PathBuf) {
        for guest in &mut self.guests {
            for file in guest.kernel.iter_mut().chain(&mut guest.initrd).chain(&mut guest.firmware) {
                if !file.value.is_empty() && !file.value.contains(':') {
                    file.value = directory(&file.span).join(&file.value).to_string_lossy().into_owned();
                }
            }
        }
    }

    /// Adds the partition of the bus service, before all others, if there is a device on the PCI bus.
    pub(crate) fn add_bus(&mut self) {
        let Some(span) =
            self.machine.devices.iter().filter(|device| device.pci.is_some()).find_map(|device| device.span.clone())
        else {
            return;
        };
        let devices = vec![Located::new(CONFIGURATION.to_owned(), span.clone())];
        self.partitions.insert(0, Partition { devices, ..Partition::added(BUS, BUS_PRIORITY, span) });
    }

    /// Adds the partition that writes out trace rings, behind all others, if the manifest or somebody else wants it.
    pub(crate) fn add_trace(&mut self, wanted: Option<Tracing>) {
        if let (None, Some(wanted)) = (&self.trace, wanted) {
            self.trace = Some(Trace { memory: Located::new(wanted.memory, 0..0), totals: false });
        }
        let totals = wanted.is_some_and(|wanted| wanted.totals);
        if let Some(trace) = &self.trace {
            let span = trace.memory.span.clone();
            let setting = (Located::new("totals".to_owned(), span.clone()), "yes".to_owned());
            let settings = if trace.totals || totals { vec![setting] } else { Vec::new() };
            self.partitions.push(Partition { settings, ..Partition::added(TRACE, TRACE_PRIORITY, span) });
        }
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

    /// Appends words to the command line of each guest that has an initial RAM disk.
    pub(crate) fn append_initrd_arguments(&mut self, arguments: &str) {
        if arguments.is_empty() {
            return;
        }
        for guest in &mut self.guests {
            let Some(initrd) = &guest.initrd else {
                continue;
            };
            let span = initrd.span.clone();
            let line = guest.command_line.get_or_insert_with(|| Located::new(String::new(), span));
            if !line.value.is_empty() {
                line.value.push(' ');
            }
            line.value.push_str(arguments);
        }
    }
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

/// `[[guest.NAME.cpu.msr]]`.
#[derive(Debug)]
pub(crate) struct Msr {
    pub(crate) span: Span,
    pub(crate) name: Option<Located<String>>,
    pub(crate) number: Option<Located<u64>>,
    pub(crate) read: Option<MsrRead>,
    pub(crate) write: Option<Located<String>>,
}

/// `read` of an MSR.
#[derive(Debug)]
pub(crate) enum MsrRead {
    Word(Located<String>),
    Constant(u64),
}

impl Msr {
    /// Its number, and where the manifest says which register it is; none if it says neither or both, or a name that is none.
    pub(crate) fn number(&self) -> Option<(u64, &Span)> {
        match (&self.name, &self.number) {
            (Some(name), None) => Some((named(&name.value)?.into(), &name.span)),
            (None, Some(number)) => Some((number.value, &number.span)),
            _ => None,
        }
    }
}

/// `[[guest.NAME.network]]`.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) span: Span,
    pub(crate) switch: Option<Located<String>>,
    pub(crate) mac: Option<Located<String>>,
    pub(crate) mtu: Located<u64>,
    /// Bytes a second.
    pub(crate) rate: Option<Located<u64>>,
    pub(crate) vlan: Option<Located<u64>>,
    pub(crate) checksum: bool,
    pub(crate) segmentation: bool,
}

impl Network {
    /// Its VLAN; none is 0.
    pub(crate) fn vlan(&self) -> u64 {
        self.vlan.as_ref().map_or(0, |vlan| vlan.value)
    }
}

/// `[switch.NAME]`: the policy of a switch.
#[derive(Debug)]
pub(crate) struct Switch {
    pub(crate) name: Located<String>,
    pub(crate) allow: Vec<Located<String>>,
}

/// A line of `allow`: from whom to whom, and whether back, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flow<'a> {
    pub(crate) from: &'a str,
    pub(crate) to: &'a str,
    pub(crate) both_ways: bool,
}

impl<'a> Flow<'a> {
    /// Reads `A -> B` or `A <-> B`.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let (from, to, both_ways) = match text.split_once("<->") {
            Some((from, to)) => (from, to, true),
            None => text.split_once("->").map(|(from, to)| (from, to, false))?,
        };
        let (from, to) = (from.trim(), to.trim());
        (!from.is_empty() && !to.is_empty()).then_some(Self { from, to, both_ways })
    }
}

/// An Ethernet address of a station, as text.
pub(crate) fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts.next().filter(|part| part.len() == 2 && !part.starts_with('+'))?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    // A group has bit 0 of the first byte; all zero is nobody.
    (parts.next().is_none() && mac[0] & 1 == 0 && mac != [0; 6]).then_some(mac)
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

    /// The first device of a partition that interrupts it, if it has one.
    pub(crate) fn interrupts_of<'m>(&self, partition: &'m Partition) -> Option<&'m Located<String>> {
        let interrupts = |name: &&Located<String>| {
            self.device(&name.value).is_some_and(|device| device.pci.is_some() || !device.interrupts.is_empty())
        };
        partition.devices.iter().find(interrupts)
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
