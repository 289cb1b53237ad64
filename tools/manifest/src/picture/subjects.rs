//! Partitions and guests, as a picture shows them.

use super::{Budget, Device, Direction, Slot, Subject, SubjectKind};
use crate::{
    machine,
    model::{Guest, Manifest, Partition, Restart, Subject as Model},
    pci::CONFIGURATION,
    read::{show_size, show_time},
};

pub(super) fn subject(manifest: &Manifest, subject: Model<'_>) -> Subject {
    let name = subject.name().value.as_str();
    let schedule = subject.schedule();
    let budget = schedule.budget_us.as_ref().zip(schedule.period_us.as_ref());
    let trusted = manifest.policy.trusted.iter().any(|trusted| trusted.value == name);
    let console = manifest.console_of(subject).map(|console| console.name.value.as_str());
    let (kind, runs, memory, facts) = match subject {
        Model::Partition(partition) => (
            SubjectKind::Partition,
            partition.program.as_ref().map_or_else(String::new, |program| program.value.clone()),
            memory_of_partition(manifest, partition),
            facts(subject),
        ),
        Model::Guest(guest) => {
            (SubjectKind::Guest, started(guest), memory_of_guest(guest), facts_of_guest(subject, guest))
        }
    };
    Subject {
        name: name.to_owned(),
        kind,
        runs,
        memory,
        facts,
        badges: if trusted { vec!["trusted".to_owned()] } else { Vec::new() },
        cpus: subject.cpus().iter().map(|cpu| cpu.value).collect(),
        priority: schedule.priority.value,
        budget: budget.map(|(budget, period)| Budget { budget_us: budget.value, period_us: period.value }),
        slots: slots(manifest, subject),
        devices: match subject {
            Model::Partition(partition) => devices(manifest, partition),
            Model::Guest(_) => Vec::new(),
        },
        rules: rules(manifest, name),
        console: manifest.subjects().position(|other| console == Some(other.name().value.as_str())),
    }
}

fn slots(manifest: &Manifest, subject: Model<'_>) -> Vec<Slot> {
    let name = subject.name().value.as_str();
    let frames = manifest.frames.iter().filter_map(|frame| {
        let (cpu, frame_us) = (frame.number()?, frame.length_us.as_ref()?.value);
        let is_gap = !frame.names(name);
        let slot = move |(start_us, end_us)| Slot { cpu, frame_us, start_us, end_us, is_gap };
        subject.runs_on(cpu).then(|| frame.slots(name).into_iter().map(slot))
    });
    frames.flatten().collect()
}

fn rules(manifest: &Manifest, name: &str) -> Vec<Direction> {
    let switch = manifest.switches.iter().filter(|switch| switch.name.value == name);
    switch.flat_map(|switch| &switch.allow).filter_map(|rule| Direction::parse(&rule.value)).collect()
}

fn memory_of_partition(manifest: &Manifest, partition: &Partition) -> Vec<String> {
    let name = partition.name.value.as_str();
    // What it shares with others is a link.
    let own = |dma| {
        let own = manifest
            .memories
            .iter()
            .filter(move |memory| memory.dma == dma && matches!(memory.partitions(), [owner] if owner.value == name));
        own.filter_map(|memory| memory.size.as_ref()).fold(0, |sum: u64, size| sum.saturating_add(size.value))
    };
    let plain = show_size(partition.heap.value.saturating_add(own(false)));
    let dma = Some(own(true)).filter(|dma| *dma > 0).map(|dma| format!("{} DMA", show_size(dma)));
    std::iter::once(plain).chain(dma).collect()
}

fn memory_of_guest(guest: &Guest) -> Vec<String> {
    guest.memory.iter().map(|memory| show_size(memory.value)).collect()
}

/// What a guest starts: the name of a package, or of a file.
fn started(guest: &Guest) -> String {
    if let Some(firmware) = &guest.firmware {
        return format!("firmware {}", short(&firmware.value));
    }
    match (&guest.kernel, &guest.monitor) {
        (Some(kernel), _) => short(&kernel.value).to_owned(),
        (None, Some(monitor)) => format!("monitor {}", monitor.value),
        (None, None) => String::new(),
    }
}

fn short(reference: &str) -> &str {
    match reference.strip_prefix("debian:") {
        Some(package) => package.split_once('#').map_or(package, |(package, _)| package),
        None => reference.rsplit('/').next().unwrap_or(reference),
    }
}

fn facts(subject: Model<'_>) -> Vec<String> {
    let mut facts = Vec::new();
    match subject.restart().policy {
        Restart::Never => {}
        Restart::Always => facts.push("restarts".to_owned()),
        Restart::Limit(limit) => facts.push(format!("restarts {limit} times")),
    }
    if let Some(node) = subject.node() {
        facts.push(format!("NUMA node {}", node.value));
    }
    if let Some(watchdog) = subject.watchdog_us() {
        facts.push(format!("watchdog {}", show_time(watchdog.value)));
    }
    facts
}

fn facts_of_guest(subject: Model<'_>, guest: &Guest) -> Vec<String> {
    let mut facts = facts(subject);
    if guest.paging.as_ref().is_some_and(|paging| paging.value == "shadow") {
        facts.push(format!("shadow tables: {}", show_size(guest.shadow_memory.value)));
    }
    if guest.hpet {
        facts.push("HPET".to_owned());
    }
    facts
}

fn devices(manifest: &Manifest, partition: &Partition) -> Vec<Device> {
    let devices = partition.devices.iter().filter_map(|name| manifest.device(&name.value));
    devices.map(|named| device(manifest, named)).collect()
}

pub(super) fn device(manifest: &Manifest, device: &machine::Device) -> Device {
    let mut what = Vec::new();
    if let Some(pci) = &device.pci {
        let text = pci.model.as_ref().map(|model| model.value.clone());
        what.extend(text.or_else(|| {
            let selection = pci.selection.as_ref()?;
            let identifier = selection.vendor.as_ref().zip(selection.device.as_ref());
            identifier
                .map(|(vendor, device)| format!("{:04x}:{:04x}", vendor.value, device.value))
                .or_else(|| selection.class.as_ref().map(|class| class.value.clone()))
                .or_else(|| selection.address.as_ref().map(|address| format!("at {}", address.value)))
        }));
        what.extend(pci.disk.as_ref().map(|disk| show_size(disk.value)));
    }
    if device.name == CONFIGURATION {
        what.push("configuration space".to_owned());
    }
    if let (Some(disk), "ide0") = (&manifest.machine.disk, device.name.as_str()) {
        what.push(show_size(disk.value));
    }
    Device { name: device.name.clone(), what }
}
