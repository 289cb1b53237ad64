//! Disks of guests and of native partitions: ranges of the drives behind block services.

use super::Context;
use crate::{
    diagnostic::Span,
    machine::{Device, IDE, SECTOR},
    model::{Disk, Manifest, Partition, Subject, monitor_heap},
    read::show_size,
};

fn disks<'a>(context: &Context<'a>) -> impl Iterator<Item = (Subject<'a>, &'a Disk)> {
    context.manifest.disks()
}

/// The device of a block service: the controller of its drive.
fn controller<'m>(manifest: &'m Manifest, service: &Partition) -> Option<&'m Device> {
    let devices = service.devices.iter().filter_map(|device| manifest.device(&device.value));
    devices.into_iter().find(|device| match &device.pci {
        Some(pci) => pci.may_have_disk(),
        None => IDE.contains(&device.name.as_str()),
    })
}

/// The controller behind a disk, if its service has one.
fn controller_of<'m>(manifest: &'m Manifest, disk: &Disk) -> Option<&'m Device> {
    controller(manifest, manifest.partition(&disk.service.as_ref()?.value)?)
}

/// A machine with a disk of an IDE controller has one.
pub(super) fn machine_has_a_disk(context: &Context<'_>) {
    let manifest = context.manifest;
    if manifest.machine.disk.is_some() {
        return;
    }
    let is_ide = |disk: &Disk| controller_of(manifest, disk).is_none_or(|device| device.pci.is_none());
    if let Some((owner, disk)) = disks(context).find(|(_, disk)| is_ide(disk)) {
        context
            .reporter
            .error(
                "disks::machine_has_none",
                &disk.span,
                format!("`{}` has a disk, but the machine has none", owner.name().value),
            )
            .help("add `disk = \"64 MiB\"` to [machine]");
    }
}

/// A disk's service is another partition, a native one that owns a disk controller.
pub(super) fn services_are_known(context: &Context<'_>) {
    let manifest = context.manifest;
    for (owner, disk) in disks(context) {
        let Some(service) = &disk.service else {
            continue;
        };
        let Some(partition) = manifest.partition(&service.value) else {
            context.unknown("disks::service_unknown", service, "native partition", &manifest.partition_names());
            continue;
        };
        if service.value == owner.name().value {
            context
                .reporter
                .error("disks::served_by_itself", &service.span, format!("`{}` cannot serve itself", service.value))
                .help("a service has its drive for itself; others have disks on it");
        } else if controller(manifest, partition).is_none() {
            context
                .reporter
                .error(
                    "disks::service_without_device",
                    &service.span,
                    format!("`{}` owns no disk controller", service.value),
                )
                .also(&partition.name.span, "the service")
                .help("give it `devices = [\"ide0\"]`, or a device of model ahci, nvme or virtio-blk");
        }
    }
}

/// There are two ways for the data of a guest's disk.
pub(super) fn data_ways_are_known(context: &Context<'_>) {
    for data in disks(context).filter_map(|(_, disk)| disk.data.as_ref()) {
        if !["shared", "copy"].contains(&data.value.as_str()) {
            context
                .reporter
                .error("disks::data_unknown", &data.span, format!("there is no way `{}` to move data", data.value))
                .help(
                    "write \"shared\": the service works on the guest's memory, and sees all of it; or \"copy\": the guest's monitor copies, \
                     and the service sees the disk's data alone",
                );
        }
    }
}

/// A monitor has room for what it copies.
pub(super) fn monitors_can_copy(context: &Context<'_>) {
    // What another program needs that runs a guest is its own affair.
    for guest in context.manifest.guests.iter().filter(|guest| guest.monitor.is_none()) {
        let (memory, usual) = (&guest.monitor_memory, monitor_heap(&guest.disks));
        let Some(disk) = guest.disks.iter().find(|disk| disk.is_copied).filter(|_| memory.value < usual) else {
            continue;
        };
        context
            .reporter
            .warning(
                "disks::monitor_memory",
                &memory.span,
                format!("{} may be too little for the monitor of `{}`", show_size(memory.value), guest.name.value),
            )
            .also(&disk.span, "it copies the data of this disk")
            .help(format!("write at least {}, or leave it out: that is what it then has", show_size(usual)));
    }
}

/// Disks begin and end at sectors, and are not empty.
pub(super) fn ranges_are_whole_sectors(context: &Context<'_>) {
    for (_, disk) in disks(context) {
        let empty = disk.size.as_ref().filter(|size| size.value == 0);
        let parts = [Some(&disk.offset), disk.size.as_ref()].into_iter().flatten();
        let odd = parts.filter(|part| !part.value.is_multiple_of(SECTOR));
        for part in odd.chain(empty) {
            context
                .reporter
                .error(
                    "disks::not_whole_sectors",
                    &part.span,
                    format!("{} is not a number of whole sectors", show_size(part.value)),
                )
                .help("offsets and sizes of disks are multiples of 512 B, and sizes are not 0");
        }
    }
}

/// The bytes of a drive and where the manifest says so, if it does.
fn drive_size<'m>(manifest: &'m Manifest, disk: &Disk) -> Option<(u64, &'m Span)> {
    let Some(device) = controller_of(manifest, disk).filter(|device| device.pci.is_some()) else {
        return manifest.machine.disk.as_ref().map(|disk| (disk.value, &disk.span));
    };
    let pci = device.pci.as_ref()?;
    let said = pci.disk.as_ref().map(|disk| &disk.span);
    Some((pci.disk_bytes()?, said.or(device.span.as_ref())?))
}

/// Disks lie on their drives.
pub(super) fn ranges_are_on_the_disk(context: &Context<'_>) {
    for (owner, disk) in disks(context) {
        let (Some(size), Some((drive, place))) = (&disk.size, drive_size(context.manifest, disk)) else { continue };
        let end = disk.offset.value.saturating_add(size.value);
        if end > drive {
            let owner = &owner.name().value;
            context
                .reporter
                .error(
                    "disks::beyond_the_end",
                    &size.span,
                    format!("a disk of `{owner}` ends at {}, beyond the machine's disk", show_size(end)),
                )
                .also(place, format!("the machine's disk has {}", show_size(drive)))
                .help("make it smaller, move its `offset`, or make the machine's disk larger");
        }
    }
}

/// Disks of one drive do not overlap, unless all of them are read-only.
pub(super) fn ranges_are_apart(context: &Context<'_>) {
    let all: Vec<_> = disks(context).collect();
    let drive = |disk: &Disk| controller_of(context.manifest, disk).map(|device| device.name.as_str());
    for (index, (owner, disk)) in all.iter().enumerate() {
        let Some(size) = &disk.size else { continue };
        let start = disk.offset.value;
        let of_drive = all.iter().take(index).filter(|(_, other)| drive(other) == drive(disk));
        for (other_owner, other) in of_drive {
            let Some(other_size) = &other.size else {
                continue;
            };
            let apart = start.saturating_add(size.value) <= other.offset.value
                || other.offset.value.saturating_add(other_size.value) <= start;
            if apart || (disk.read_only && other.read_only) {
                continue;
            }
            context
                .reporter
                .error(
                    "disks::ranges_overlap",
                    &size.span,
                    format!("disks of `{}` and `{}` overlap", owner.name().value, other_owner.name().value),
                )
                .label(format!("from {} to {}", show_size(start), show_size(start.saturating_add(size.value))))
                .also(
                    &other_size.span,
                    format!(
                        "from {} to {}",
                        show_size(other.offset.value),
                        show_size(other.offset.value.saturating_add(other_size.value))
                    ),
                )
                .help("move one `offset`; only disks that are all `read_only = true` may overlap");
        }
    }
}
