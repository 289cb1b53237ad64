//! Devices on the PCI bus.

use super::Context;
use crate::{
    diagnostic::Span,
    machine::{Device, IDE, SECTOR},
    model::{Located, Manifest, Partition},
    pci::{BUS, CLASSES, Model, PciDevice, parse_address},
    read::show_size,
};
use bulkhead_plan::{DeviceSelector, layout};

fn devices<'a>(context: &Context<'a>) -> impl Iterator<Item = (&'a Device, &'a PciDevice, &'a Span)> {
    let devices = context.manifest.machine.devices.iter();
    devices.filter_map(|device| Some((device, device.pci.as_ref()?, device.span.as_ref()?)))
}

/// The bus partition's name is taken when there is one.
pub(super) fn bus_is_reserved(context: &Context<'_>) {
    if devices(context).next().is_none() {
        return;
    }
    let named_so = context.manifest.subjects().filter(|subject| subject.name().value == BUS);
    for subject in named_so.filter(|subject| !subject.is_added()) {
        context
            .reporter
            .error("pci::bus_is_reserved", &subject.name().span, "`bus` is the partition that finds PCI devices")
            .help("give this one another name");
    }
}

/// A device is described in one way, by a model that there is or by what the bus shows.
pub(super) fn descriptions_are_possible(context: &Context<'_>) {
    for (device, pci, span) in devices(context) {
        if !device.ports.is_empty() || !device.interrupts.is_empty() {
            context
                .reporter
                .error("pci::fixed_resources", span, format!("device `{}` is on the PCI bus", device.name))
                .help("its ports and interrupts are found there: remove `ports` and `interrupts`");
        }
        if let Some(model) = &pci.model {
            if let Some(selection) = &pci.selection {
                context
                    .reporter
                    .error("pci::described_twice", &model.span, "a device has a `model` or a `pci`, not both")
                    .also(&selection.span, "the other description")
                    .help("a model is also found on a real machine");
            }
            if pci.known_model().is_none() {
                context.unknown("pci::model_unknown", model, "model", &Model::ALL.map(Model::name));
            }
        } else if let Some(selection) = &pci.selection {
            let address = selection.address.as_ref();
            let class = selection.class.as_ref();
            if let Some(address) = address.filter(|address| parse_address(&address.value).is_none()) {
                context
                    .reporter
                    .error("pci::bad_address", &address.span, format!("`{}` is no address on the bus", address.value))
                    .help(r#"write bus, device and function in hexadecimal, as in "00:03.0""#);
            } else if let Some(class) = class.filter(|class| !CLASSES.iter().any(|(name, _)| *name == class.value)) {
                context.unknown("pci::class_unknown", class, "class", &CLASSES.map(|(name, _)| name));
            } else if selection.selector().is_none() {
                context
                    .reporter
                    .error("pci::bad_selection", &selection.span, "that does not say which device is meant")
                    .help(
                        r#"write { vendor = 0x8086, device = 0x100e }, { class = "nvme" } or { address = "00:03.0" }"#,
                    );
            }
        }
        let most = layout::MAX_MESSAGES as u64;
        if !(1..=most).contains(&pci.vectors.value) {
            context
                .reporter
                .error("pci::vectors", &pci.vectors.span, format!("there are no {} vectors", pci.vectors.value))
                .help(format!("a device has 1 to {most} message interrupts"));
        }
    }
    if let Some((_, _, span)) = devices(context).nth(layout::MAX_DEVICES) {
        context
            .reporter
            .error("pci::too_many", span, format!("there are more than {} devices on the bus", layout::MAX_DEVICES))
            .help("remove some of them");
    }
}

/// Two devices are not one.
pub(super) fn addresses_are_apart(context: &Context<'_>) {
    let mut taken: Vec<(u32, &str, &Span)> = Vec::new();
    for (device, pci, span) in devices(context) {
        let Some((DeviceSelector::Address, [address, _])) = pci.selector() else {
            continue;
        };
        if let Some((_, other, place)) = taken.iter().find(|(other, ..)| *other == address) {
            context
                .reporter
                .error("pci::same_address", span, format!("devices `{}` and `{other}` have one address", device.name))
                .also(place, "the other device")
                .help("correct one of them");
        }
        taken.push((address, &device.name, span));
    }
}

/// Disks are for models that have one, and of whole sectors.
pub(super) fn disks_are_possible(context: &Context<'_>) {
    for (device, pci, _) in devices(context) {
        let Some(disk) = &pci.disk else { continue };
        if !pci.known_model().is_some_and(Model::has_disk) {
            if pci.model.is_none() || pci.known_model().is_some() {
                context
                    .reporter
                    .error("pci::disk_without_controller", &disk.span, format!("device `{}` has no disk", device.name))
                    .help("`disk` is the size of the emulated disk of a model ahci, nvme or virtio-blk");
            }
        } else if disk.value == 0 || !disk.value.is_multiple_of(SECTOR) {
            context
                .reporter
                .error("pci::disk_size", &disk.span, format!("a disk cannot have {}", show_size(disk.value)))
                .help("disks have whole sectors of 512 B");
        }
    }
}

/// A device on the bus is there for somebody.
pub(super) fn devices_have_owners(context: &Context<'_>) {
    let owned: Vec<&str> = (context.manifest.partitions.iter())
        .flat_map(|partition| &partition.devices)
        .map(|device| device.value.as_str())
        .collect();
    for (device, _, span) in devices(context).filter(|(device, ..)| !owned.contains(&device.name.as_str())) {
        context
            .reporter
            .error("pci::no_owner", span, format!("nobody owns device `{}`", device.name))
            .help(format!("add it to the `devices` of a partition: [\"{}\"]", device.name));
    }
}

/// Programs with a driver of a device on the bus that does DMA.
const DRIVERS: [&str; 6] = ["ahci", "drivecheck", "netcheck", "nvme", "switch", "virtio-blk"];

/// A driver has memory that its device reaches.
pub(super) fn drivers_have_memory(context: &Context<'_>) {
    let manifest = context.manifest;
    for partition in &manifest.partitions {
        let is_driver = partition.program.as_ref().is_some_and(|program| DRIVERS.contains(&program.value.as_str()));
        let on_bus = |name: &str| manifest.device(name).is_some_and(|device| device.pci.is_some());
        let Some(device) = partition.devices.iter().find(|device| is_driver && on_bus(&device.value)) else {
            continue;
        };
        let name = partition.name.value.as_str();
        let has_memory = (manifest.memories.iter())
            .any(|memory| memory.dma && memory.partitions().iter().any(|owner| owner.value == name));
        if !has_memory {
            context
                .reporter
                .error(
                    "pci::no_memory_for_dma",
                    &device.span,
                    format!("`{name}` has no memory that its device reaches"),
                )
                .help(format!(
                    "add a table [memory.NAME] with partitions = [\"{name}\"], size = \"1 MiB\", dma = true"
                ));
        }
    }
}

/// Who must be trusted since a device of theirs reaches all memory, where the manifest does not count on an IOMMU.
pub(super) fn direct_memory_access_is_confined(context: &Context<'_>) {
    let manifest = context.manifest;
    let owners = owners_with_all_memory(manifest);
    let Some((_, first)) = owners.first() else {
        return;
    };
    let names: Vec<_> = owners.iter().map(|(partition, _)| format!("`{}`", partition.name.value)).collect();
    context
        .reporter
        .warning(
            "pci::memory_is_open",
            &first.span,
            format!("{} must be trusted: their devices can reach all memory", names.join(", ")),
        )
        .label("reaches all memory by DMA")
        .help("`iommu = true` in [machine] confines devices on the PCI bus, on a machine that has an IOMMU: see docs/security.md");
}

/// The partitions with a device that reaches all memory, where the manifest does not count on an IOMMU; and that device.
pub(super) fn owners_with_all_memory(manifest: &Manifest) -> Vec<(&Partition, &Located<String>)> {
    if manifest.machine.iommu {
        return Vec::new();
    }
    let has_dma = |name: &str| IDE.contains(&name) || manifest.device(name).is_some_and(|device| device.pci.is_some());
    let owners = manifest.partitions.iter();
    owners
        .filter_map(|partition| Some((partition, partition.devices.iter().find(|device| has_dma(&device.value))?)))
        .collect()
}

/// An IOMMU knows devices by their place on the bus, which an IDE controller with fixed ports has not.
pub(super) fn ide_is_not_behind_an_iommu(context: &Context<'_>) {
    if !context.manifest.machine.iommu {
        return;
    }
    let devices = context.manifest.partitions.iter().flat_map(|partition| &partition.devices);
    for device in devices.filter(|device| IDE.contains(&device.value.as_str())) {
        context
            .reporter
            .error(
                "pci::ide_behind_iommu",
                &device.span,
                format!("the IOMMU would block the DMA of `{}`", device.value),
            )
            .label("has no place on the PCI bus")
            .help("use a disk on the bus, such as model ahci or nvme; or leave out `iommu` in [machine]");
    }
}
