//! What a manifest says, with the place of each value.
//!
//! A value that is missing or that could not be read is `None` here: it has been reported, and checks pass over it.

use crate::{
    diagnostic::Span,
    machine::Device,
    pci::{BUS, CONFIGURATION},
};
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
}

/// `[policy]`.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    /// Flows of information that must not be, as in `A -> B`.
    pub(crate) deny: Vec<Located<String>>,
    /// Partitions that pass on nothing that they hear.
    pub(crate) trusted: Vec<Located<String>>,
}

/// Priority of the bus service, which runs alone, before the seal.
const BUS_PRIORITY: u64 = 20;

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

    /// Adds the partition of the bus service, before all others, if there is a device on the PCI bus.
    pub(crate) fn add_bus(&mut self) {
        let Some(span) =
            self.machine.devices.iter().filter(|device| device.pci.is_some()).find_map(|device| device.span.clone())
        else {
            return;
        };
        let number = |value| Located::new(value, span.clone());
        let text = |value: &str| Located::new(value.to_owned(), span.clone());
        let bus = Partition {
            name: text(BUS),
            program: Some(text(BUS)),
            cpu: number(0),
            schedule: Schedule { priority: number(BUS_PRIORITY), budget_us: None, period_us: None },
            heap: number(64 << 10),
            stack: number(layout::STACK_BYTES),
            devices: vec![text(CONFIGURATION)],
            restart: Restart::Never.into(),
            watchdog_us: None,
            inject: None,
            console: Console::Default,
            must_finish: false,
            settings: Vec::new(),
        };
        self.partitions.insert(0, bus);
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
    pub(crate) devices: Vec<Device>,
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
    pub(crate) stack: Located<u64>,
    pub(crate) devices: Vec<Located<String>>,
    pub(crate) restart: RestartRule,
    pub(crate) watchdog_us: Option<Located<u64>>,
    pub(crate) inject: Option<Inject>,
    pub(crate) console: Console,
    pub(crate) must_finish: bool,
    pub(crate) settings: Vec<(Located<String>, String)>,
}

/// `[guest.NAME]`.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) name: Located<String>,
    pub(crate) memory: Option<Located<u64>>,
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
    pub(crate) statistics: bool,
    pub(crate) paging: Option<Located<String>>,
    pub(crate) shadow_memory: Located<u64>,
    pub(crate) restart: RestartRule,
    pub(crate) inject: Option<Inject>,
    pub(crate) console: Console,
    pub(crate) must_finish: bool,
    pub(crate) monitor_memory: Located<u64>,
    pub(crate) disks: Vec<Disk>,
    pub(crate) networks: Vec<Network>,
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

/// `[[guest.NAME.disk]]`.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) span: Span,
    pub(crate) service: Option<Located<String>>,
    pub(crate) offset: Located<u64>,
    pub(crate) size: Option<Located<u64>>,
    pub(crate) read_only: bool,
    pub(crate) data: Option<Located<String>>,
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
}

/// `[endpoint.NAME]`.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) name: Located<String>,
    pub(crate) server: Option<Located<String>>,
    pub(crate) clients: Option<Vec<Located<String>>>,
}

/// `[memory.NAME]`.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) name: Located<String>,
    pub(crate) partitions: Option<Vec<Located<String>>>,
    pub(crate) size: Option<Located<u64>>,
    pub(crate) physical: Option<Located<u64>>,
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

    /// The partition or guest of this name.
    pub(crate) fn subject(&self, name: &str) -> Option<Subject<'_>> {
        self.subjects().find(|subject| subject.name().value == name)
    }

    /// The native partition of this name.
    pub(crate) fn partition(&self, name: &str) -> Option<&Partition> {
        self.partitions.iter().find(|partition| partition.name.value == name)
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
