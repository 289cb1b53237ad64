//! Guests' disks: ranges of the machine's disk.

use super::Context;
use crate::{
    model::{Disk, Guest},
    read::show_size,
};

/// Bytes of a sector.
const SECTOR: u64 = 512;
/// Devices that a block service drives.
const CONTROLLERS: [&str; 2] = ["ide0", "ide1"];

fn disks<'a>(context: &Context<'a>) -> impl Iterator<Item = (&'a Guest, &'a Disk)> {
    context.manifest.guests.iter().flat_map(|guest| guest.disks.iter().map(move |disk| (guest, disk)))
}

/// A machine whose guests have disks has one.
pub(super) fn machine_has_a_disk(context: &Context<'_>) {
    if context.manifest.machine.disk.is_some() {
        return;
    }
    if let Some((guest, disk)) = disks(context).next() {
        context
            .reporter
            .error(
                "disks::machine_has_none",
                &disk.span,
                format!("guest `{}` has a disk, but the machine has none", guest.name.value),
            )
            .help("add `disk = \"64 MiB\"` to [machine]");
    }
}

/// A disk's service is a native partition that owns a disk controller.
pub(super) fn services_are_known(context: &Context<'_>) {
    let manifest = context.manifest;
    for (_, disk) in disks(context) {
        let Some(service) = &disk.service else {
            continue;
        };
        match manifest.partition(&service.value) {
            None => context.unknown("disks::service_unknown", service, "native partition", &manifest.partition_names()),
            Some(partition) => {
                let drives = partition.devices.iter().any(|device| CONTROLLERS.contains(&device.value.as_str()));
                if !drives {
                    context
                        .reporter
                        .error(
                            "disks::service_without_device",
                            &service.span,
                            format!("`{}` owns no disk controller", service.value),
                        )
                        .also(&partition.name.span, "the service")
                        .help("give it `devices = [\"ide0\"]`");
                }
            }
        }
    }
}

/// The service works on the guest's memory itself.
pub(super) fn data_is_shared(context: &Context<'_>) {
    for data in disks(context).filter_map(|(_, disk)| disk.data.as_ref()) {
        if data.value != "shared" {
            context
                .reporter
                .error("disks::data_unknown", &data.span, format!("there is no way `{}` to move data", data.value))
                .help("write \"shared\": the service reads and writes the guest's memory, and sees all of it");
        }
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

/// Disks lie on the machine's disk.
pub(super) fn ranges_are_on_the_disk(context: &Context<'_>) {
    let Some(machine) = &context.manifest.machine.disk else {
        return;
    };
    for (guest, disk) in disks(context) {
        let Some(size) = &disk.size else { continue };
        let end = disk.offset.value.saturating_add(size.value);
        if end > machine.value {
            context
                .reporter
                .error(
                    "disks::beyond_the_end",
                    &size.span,
                    format!("a disk of `{}` ends at {}, beyond the machine's disk", guest.name.value, show_size(end)),
                )
                .also(&machine.span, format!("the machine's disk has {}", show_size(machine.value)))
                .help("make it smaller, move its `offset`, or raise `disk` in [machine]");
        }
    }
}

/// Disks do not overlap, unless all of them are read-only.
pub(super) fn ranges_are_apart(context: &Context<'_>) {
    let all: Vec<_> = disks(context).collect();
    for (index, (guest, disk)) in all.iter().enumerate() {
        let Some(size) = &disk.size else { continue };
        let start = disk.offset.value;
        for (other_guest, other) in all.iter().take(index) {
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
                    format!("disks of `{}` and `{}` overlap", guest.name.value, other_guest.name.value),
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
