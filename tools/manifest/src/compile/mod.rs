//! From a checked model to the plan that init carries out.

mod channels;
mod disks;
mod frames;
mod guests;
mod modules;
mod resources;
mod space;

use crate::{
    checks::USABLE_BITS,
    diagnostic::{Diagnostic, Reporter},
    files::{Files, MONITOR},
    model::{EndCondition, Located, Manifest, Partition, Restart, Subject},
    pci::Model,
};
use bulkhead_abi::{CpuFeatures, PAGE_SIZE};
use bulkhead_plan::{
    BindingFlags, BindingRecord, EndKind, EntryKind, EnvironmentEntry, NO_BIT, NO_INDEX, Name, PartitionKind,
    PartitionRecord, Plan, RegionRecord, RestartPolicy, ThreadRecord, layout, writer::PlanWriter,
};
pub(crate) use resources::MAX_TRACE_MEMORY;

use modules::Modules;
use space::{Space, SpaceSize};
use std::path::PathBuf;
use zerocopy::FromZeros;

/// What a manifest compiles to.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// The plan: the module `plan` of the boot image.
    pub plan: Vec<u8>,
    /// The other modules that the plan names (init is not among them): name and host file.
    pub modules: Vec<(String, PathBuf)>,
    /// What the machine must have.
    pub needs: Needs,
    /// What its author should know.
    pub warnings: Vec<Diagnostic>,
}

/// What a manifest needs of the machine.
#[derive(Debug, Clone)]
pub struct Needs {
    /// CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Bytes of the disk on `ide0`, if the manifest has one.
    pub disk_bytes: Option<u64>,
    /// The devices on the PCI bus that an emulated machine must have, in the order of their places.
    pub devices: Vec<EmulatedDevice>,
    /// Whether the machine must have an IOMMU (VT-d).
    pub iommu: bool,
    /// The NUMA nodes that an emulated machine must have; none if nothing is said of them.
    pub nodes: Vec<EmulatedNode>,
    /// CPU features that all partitions together need.
    pub features: CpuFeatures,
    /// CPU features by partition, for those that need any.
    pub features_by_partition: Vec<(String, CpuFeatures)>,
}

/// A NUMA node that an emulated machine must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmulatedNode {
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Numbers of its CPUs.
    pub cpus: Vec<u32>,
}

/// A device that an emulated machine must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmulatedDevice {
    /// Its name in the manifest.
    pub name: String,
    /// What it is.
    pub model: Model,
    /// Bytes of its disk, if it has one.
    pub disk_bytes: Option<u64>,
}

/// The parts of a plan in the making.
struct Compiler<'a> {
    manifest: &'a Manifest,
    files: &'a Files,
    writer: PlanWriter,
    modules: Modules,
    /// By the index of the partition in the plan; the first one is init's.
    spaces: Vec<Space>,
}

/// A checked manifest's plan; `None` if a file changed under our hands, which is reported.
pub(crate) fn compile(manifest: &Manifest, files: &Files, reporter: &Reporter) -> Option<Compiled> {
    let mut compiler = Compiler {
        manifest,
        files,
        writer: PlanWriter::default(),
        modules: Modules::default(),
        spaces: vec![Space::for_init()],
    };
    compiler.spaces.extend(manifest.subjects().map(|_| Space::for_partition()));
    compiler.heaps_and_status_pages();
    compiler.channels();
    compiler.exchange();
    compiler.devices();
    compiler.endpoints();
    compiler.memories();
    compiler.trace();
    compiler.guests();
    compiler.partitions_disks();
    compiler.settings();
    compiler.frames();
    compiler.finish(reporter)
}

/// A checked name as the plan holds it.
fn plan_name(text: &str) -> Name {
    Name::new(text).unwrap_or(Name::EMPTY)
}

/// A NUMA node as the plan holds it.
fn number_of(node: Option<&Located<u64>>) -> u32 {
    node.and_then(|node| u32::try_from(node.value).ok()).unwrap_or(NO_INDEX)
}

fn without_target() -> BindingRecord {
    BindingRecord { target: NO_INDEX, flags: 0 }
}

fn writable(target: u32) -> BindingRecord {
    BindingRecord { target, flags: BindingFlags::WRITE }
}

impl<'a> Compiler<'a> {
    /// Index in the plan of a partition or guest.
    fn index_of(&self, name: &str) -> Option<usize> {
        self.manifest.subjects().position(|subject| subject.name().value == name).map(|index| index + 1)
    }

    /// The subjects with their index in the plan.
    fn numbered(&self) -> impl Iterator<Item = (usize, Subject<'a>)> + use<'a> {
        (1..).zip(self.manifest.subjects())
    }

    /// Memory in whole pages, from anywhere.
    fn region(&mut self, size: u64) -> u32 {
        self.region_on(None, size, PAGE_SIZE)
    }

    /// The same from a NUMA node.
    fn region_on(&mut self, node: Option<&Located<u64>>, size: u64, alignment: u64) -> u32 {
        self.writer.region(RegionRecord { size, alignment, physical: 0, node: number_of(node), reserved: 0 })
    }

    fn heaps_and_status_pages(&mut self) {
        for (index, subject) in self.numbered() {
            let heap = match subject {
                Subject::Partition(partition) => partition.heap.value,
                Subject::Guest(guest) => guest.monitor_memory.value,
            };
            let heap_region = self.region_on(subject.node(), heap, PAGE_SIZE);
            let status_region = self.region(PAGE_SIZE);
            let name = plan_name("status");
            if let Some(init) = self.spaces.first_mut() {
                let bit = init.bit();
                let address = init.address(PAGE_SIZE);
                let peer = plan_name(&subject.name().value);
                let entry = EnvironmentEntry {
                    bit,
                    address,
                    size: PAGE_SIZE,
                    peer,
                    ..EnvironmentEntry::new(EntryKind::Status, name)
                };
                init.push(entry, writable(status_region));
            }
            if let Some(space) = self.spaces.get_mut(index) {
                let heap_entry = EnvironmentEntry {
                    address: layout::HEAP,
                    size: heap,
                    ..EnvironmentEntry::new(EntryKind::Heap, plan_name("heap"))
                };
                space.maps(layout::HEAP, heap);
                space.push(heap_entry, writable(heap_region));
                let (slot, address) = (space.slot(), space.address(PAGE_SIZE));
                let peer = plan_name("init");
                let watchdog_us = subject.watchdog_us().map_or(0, |time| time.value);
                let entry = EnvironmentEntry {
                    slot,
                    address,
                    size: PAGE_SIZE,
                    peer,
                    parameters: [watchdog_us, 0, 0, 0],
                    ..EnvironmentEntry::new(EntryKind::Status, name)
                };
                space.push(entry, writable(status_region));
            }
        }
    }

    fn settings(&mut self) {
        for (partition, space) in self.manifest.partitions.iter().zip(self.spaces.iter_mut().skip(1)) {
            if partition.capabilities {
                let (slot, window) = (space.slot(), space.slot());
                let new = EnvironmentEntry::new(EntryKind::OwnPartition, plan_name("partition"));
                let entry = EnvironmentEntry { slot, parameters: [window, 0, 0, 0], ..new };
                space.push(entry, without_target());
            }
            for (key, text) in &partition.settings {
                space.push_text(plan_name(&key.value), text);
            }
        }
    }

    fn finish(mut self, reporter: &Reporter) -> Option<Compiled> {
        let manifest = self.manifest;
        let mut features_by_partition = Vec::new();
        let (init, spaces) = {
            let mut spaces = std::mem::take(&mut self.spaces).into_iter();
            (spaces.next()?, spaces)
        };
        self.add_init(init);
        for ((index, subject), space) in self.numbered().zip(spaces) {
            if let Subject::Guest(guest) = subject {
                features_by_partition.push((guest.name.value.clone(), guests::features(guest)));
            }
            self.add_subject(index, subject, space)?;
        }
        let features = features_by_partition.iter().fold(CpuFeatures::empty(), |all, (_, features)| all | *features);
        let header = &mut self.writer.header;
        header.name = plan_name(&manifest.system.name.value);
        header.cpus = manifest.machine.cpus.value as u32;
        header.features = features.bits();
        header.iommu = u32::from(manifest.machine.iommu);
        header.dump = u32::from(manifest.system.dump);
        let (end, partition, after) = match &manifest.system.end.value {
            EndCondition::GuestsOff => (EndKind::MustFinish, None, 0),
            EndCondition::Never => (EndKind::Never, None, 0),
            EndCondition::Partition(name) => (EndKind::Partition, Some(name), 0),
            EndCondition::AfterMicroseconds(time) => (EndKind::After, None, *time),
        };
        header.end = end as u32;
        header.end_after_us = after;
        let end_partition =
            partition.and_then(|name| manifest.subjects().position(|subject| subject.name().value == name.value));
        self.writer.header.end_partition = end_partition.map_or(NO_INDEX, |index| index as u32 + 1);
        let modules = self.modules.finish(&mut self.writer, reporter)?;
        let plan = self.writer.finish();
        if let Err(error) = check_plan(&plan) {
            reporter
                .error(
                    "compile::inconsistent_plan",
                    &manifest.system.name.span,
                    format!("the compiled plan is inconsistent: {error}"),
                )
                .help("this is an error of the compiler, not of the manifest: please report it");
            return None;
        }
        let needs = Needs {
            cpus: manifest.machine.cpus.value as u32,
            memory_mib: manifest.machine.memory.value.div_ceil(1 << 20),
            disk_bytes: manifest.machine.disk.as_ref().map(|disk| disk.value),
            devices: emulated_devices(manifest),
            iommu: manifest.machine.iommu,
            nodes: emulated_nodes(manifest),
            features,
            features_by_partition,
        };
        Some(Compiled { plan, modules, needs, warnings: Vec::new() })
    }

    fn add_init(&mut self, space: Space) {
        let SpaceSize { pool_pages, next_slot } = space.size();
        let record = PartitionRecord {
            name: plan_name("init"),
            kind: PartitionKind::Init as u32,
            program: NO_INDEX,
            guest: NO_INDEX,
            table_slots: next_slot as u32,
            pool_pages,
            init_bit: NO_BIT,
            node: NO_INDEX,
            ..PartitionRecord::new_zeroed()
        };
        self.writer.partition(record, &[], space.environment());
    }

    fn add_subject(&mut self, index: usize, subject: Subject<'_>, mut space: Space) -> Option<()> {
        let (program_name, kind, guest, restart, stack_bytes, features) = match subject {
            Subject::Partition(partition) => {
                let Partition { program, restart, stack, .. } = partition;
                let program = program.as_ref()?.value.as_str();
                (program, PartitionKind::Native, NO_INDEX, restart, stack.value, CpuFeatures::empty())
            }
            Subject::Guest(guest) => {
                let number = self.manifest.guests.iter().position(|other| other.name == guest.name)?;
                let monitor = guest.monitor.as_ref().map_or(MONITOR, |monitor| monitor.value.as_str());
                (
                    monitor,
                    PartitionKind::Guest,
                    number as u32,
                    &guest.restart,
                    layout::STACK_BYTES,
                    guests::features(guest),
                )
            }
        };
        let program = self.files.program(program_name)?;
        for (start, size) in &program.segments {
            space.maps(*start, *size);
        }
        let schedule = subject.schedule();
        let microseconds = |time: &Option<crate::model::Located<u64>>| time.as_ref().map_or(0, |time| time.value);
        let mut threads = Vec::new();
        for (number, cpu) in (0..).zip(subject.cpus()) {
            let (slot, notification_slot) = space.thread_slots(number);
            let stack_top = layout::STACK_TOP + number * layout::STACK_STRIDE;
            space.maps(stack_top - stack_bytes, stack_bytes);
            threads.push(ThreadRecord {
                cpu: cpu.value as u32,
                priority: schedule.priority.value as u32,
                budget_us: microseconds(&schedule.budget_us),
                period_us: microseconds(&schedule.period_us),
                stack_top,
                stack_bytes,
                slot,
                notification_slot,
            });
        }
        let inject = match subject {
            Subject::Partition(partition) => partition.inject.as_ref(),
            Subject::Guest(guest) => guest.inject.as_ref(),
        };
        let backoff_us = microseconds(&restart.backoff_us);
        let (restart, restart_limit) = match &restart.policy {
            Restart::Never => (RestartPolicy::Never, 0),
            Restart::Always => (RestartPolicy::Always, 0),
            Restart::Limit(limit) => (RestartPolicy::Limit, u32::try_from(*limit).unwrap_or(u32::MAX)),
        };
        let SpaceSize { pool_pages, next_slot } = space.size();
        let record = PartitionRecord {
            name: plan_name(&subject.name().value),
            kind: kind as u32,
            program: self.modules.program(program_name, program),
            guest,
            table_slots: (next_slot + SPARE_SLOTS).next_multiple_of(SPARE_SLOTS) as u32,
            pool_pages,
            restart: restart as u32,
            restart_limit,
            must_finish: u32::from(subject.must_finish()),
            init_bit: index as u32 - 1,
            program_bytes: program.memory(),
            features: features.bits(),
            fault: inject.map_or(0, |inject| inject.fault as u32),
            fault_times: inject.map_or(0, |inject| u32::try_from(inject.times).unwrap_or(u32::MAX)),
            fault_after_us: inject.map_or(0, |inject| inject.after_us),
            fault_every_us: inject.map_or(0, |inject| inject.every_us),
            node: number_of(subject.node()),
            watchdog_us: subject.watchdog_us().map_or(0, |time| time.value),
            backoff_us,
            ..PartitionRecord::new_zeroed()
        };
        self.writer.partition(record, &threads, space.environment());
        Some(())
    }
}

fn emulated_nodes(manifest: &Manifest) -> Vec<EmulatedNode> {
    let nodes = manifest.machine.nodes.iter().map(|node| EmulatedNode {
        memory_mib: node.memory.as_ref().map_or(0, |memory| memory.value >> 20),
        cpus: node.cpus.iter().map(|cpu| cpu.value as u32).collect(),
    });
    nodes.collect()
}

fn emulated_devices(manifest: &Manifest) -> Vec<EmulatedDevice> {
    let devices = manifest.pci_devices().filter_map(|(_, device)| {
        let pci = device.pci.as_ref()?;
        let model = pci.known_model()?;
        Some(EmulatedDevice { name: device.name.clone(), model, disk_bytes: pci.disk_bytes() })
    });
    devices.collect()
}

/// Free slots in every capability table, for capabilities that come by IPC.
const SPARE_SLOTS: u64 = 16;

/// The reader's own checks, on bytes aligned as a boot loader aligns them.
fn check_plan(plan: &[u8]) -> Result<(), String> {
    let mut words = vec![0u64; plan.len().div_ceil(8)];
    let aligned = zerocopy::IntoBytes::as_mut_bytes(words.as_mut_slice());
    if let Some(target) = aligned.get_mut(..plan.len()) {
        target.copy_from_slice(plan);
    }
    let plan = Plan::parse(aligned).map_err(|error| format!("{error:?}"))?;
    let too_many = plan.partitions().any(|partition| {
        let beyond = |channel: bulkhead_plan::Channel<'_>| {
            channel.bit != NO_BIT && channel.bit + channel.kind.bits(channel.role) > USABLE_BITS as u32
        };
        let environment = &partition.environment;
        environment.entries().iter().any(|entry| entry.bit != NO_BIT && entry.bit >= USABLE_BITS as u32)
            || environment.channels().any(beyond)
    });
    if too_many { Err("too many signal bits".to_owned()) } else { Ok(()) }
}
