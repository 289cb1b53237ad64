//! Memory.

use super::Context;
use crate::{
    diagnostic::Span,
    model::{Guest, Memory, Trace},
    read::show_size,
};
use bulkhead_abi::PAGE_SIZE;
use bulkhead_plan::layout;

/// What the kernel takes for itself: image, per-CPU data, frame table, init.
const KERNEL_BYTES: u64 = 24 << 20;
/// Below this address lie firmware data and the kernel.
const FIRST_FIXED: u64 = 16 << 20;

fn show_range(start: u64, size: u64) -> String {
    format!("{start:#x} to {:#x}", u128::from(start) + u128::from(size))
}

/// Sizes of memory are whole pages, and not empty.
pub(super) fn sizes_are_whole_pages(context: &Context<'_>) {
    let manifest = context.manifest;
    let sizes = (manifest.partitions.iter().flat_map(|partition| [&partition.heap, &partition.stack]))
        .chain(manifest.guests.iter().flat_map(|guest| guest.memory.iter().chain([&guest.monitor_memory])))
        .chain(manifest.channels.iter().map(|channel| &channel.memory))
        .chain(manifest.memories.iter().filter_map(|memory| memory.size.as_ref()))
        .chain([&manifest.machine.memory]);
    for size in sizes.filter(|size| size.value == 0 || !size.value.is_multiple_of(PAGE_SIZE)) {
        context
            .reporter
            .error(
                "memory::not_whole_pages",
                &size.span,
                format!("{} is not a number of whole pages", show_size(size.value)),
            )
            .help("memory is given in multiples of 4 KiB");
    }
    for fixed in manifest.memories.iter().flat_map(|memory| memory.physical.iter().chain(&memory.address)) {
        if fixed.value == 0 || !fixed.value.is_multiple_of(PAGE_SIZE) {
            context
                .reporter
                .error("memory::not_whole_pages", &fixed.span, format!("{:#x} is not the start of a page", fixed.value))
                .help("addresses are multiples of 0x1000, and not 0");
        }
    }
}

/// What is mapped fits into the part of the address space that it has; a machine has no more than any that is built.
pub(super) fn sizes_fit_their_place(context: &Context<'_>) {
    const MAX_CHANNEL: u64 = 64 << 20;
    const MAX_SHARED: u64 = 64 << 30;
    const MAX_MACHINE: u64 = 16 << 40;
    let manifest = context.manifest;
    let mut sizes = vec![(&manifest.machine.memory, MAX_MACHINE)];
    for partition in &manifest.partitions {
        sizes.push((&partition.heap, layout::HEAP_MAX));
        sizes.push((&partition.stack, layout::STACK_STRIDE - PAGE_SIZE));
    }
    sizes.extend(manifest.guests.iter().map(|guest| (&guest.monitor_memory, layout::HEAP_MAX)));
    sizes.extend(manifest.channels.iter().map(|channel| (&channel.memory, MAX_CHANNEL)));
    sizes.extend(manifest.memories.iter().filter_map(|memory| Some((memory.size.as_ref()?, MAX_SHARED))));
    for (size, most) in sizes.into_iter().filter(|(size, most)| size.value > *most) {
        context
            .reporter
            .error("memory::too_large", &size.span, format!("{} is too much", show_size(size.value)))
            .help(format!("at most {} fit here", show_size(most)));
    }
}

/// Memory at fixed physical addresses is memory that the machine has, and that the kernel does not need.
pub(super) fn fixed_ranges_are_inside_the_machine(context: &Context<'_>) {
    let machine = &context.manifest.machine.memory;
    for memory in &context.manifest.memories {
        let (Some(physical), Some(size)) = (&memory.physical, &memory.size) else {
            continue;
        };
        let end = u128::from(physical.value) + u128::from(size.value);
        if physical.value < FIRST_FIXED || end > u128::from(machine.value) {
            context
                .reporter
                .error(
                    "memory::outside_the_machine",
                    &physical.span,
                    format!("memory at {} is not free memory of the machine", show_range(physical.value, size.value)),
                )
                .also(&machine.span, format!("the machine has {}", show_size(machine.value)))
                .help(format!("choose addresses from {FIRST_FIXED:#x} (the kernel is below) to {:#x}", machine.value));
        }
    }
}

/// Memory at fixed physical addresses does not overlap.
pub(super) fn fixed_ranges_are_apart(context: &Context<'_>) {
    let ranges = fixed(&context.manifest.memories, |memory| memory.physical.as_ref().map(|physical| physical.value));
    let help = "move one of them; memory that two partitions share is one [memory.NAME] with both in `partitions`";
    context.overlaps("memory::fixed_ranges_overlap", &ranges, show_range, help);
}

fn fixed(memories: &[Memory], start: impl Fn(&Memory) -> Option<u64>) -> Vec<(u64, u64, &Span, String)> {
    let ranges = memories.iter().filter_map(|memory| {
        let size = memory.size.as_ref()?.value;
        let place = memory.physical.as_ref().or(memory.address.as_ref()).map_or(&memory.name.span, |at| &at.span);
        Some((start(memory)?, size, place, format!("memory `{}`", memory.name.value)))
    });
    ranges.collect()
}

/// Memory at fixed virtual addresses overlaps neither within a partition nor with what every partition has.
pub(super) fn addresses_are_apart(context: &Context<'_>) {
    let manifest = context.manifest;
    for memory in &manifest.memories {
        let (Some(address), Some(size)) = (&memory.address, &memory.size) else {
            continue;
        };
        let end = u128::from(address.value) + u128::from(size.value);
        let (first, last) = (FIXED_ADDRESSES, bulkhead_abi::USER_END);
        if address.value < first || end > u128::from(last) {
            context
                .reporter
                .error(
                    "memory::address_taken",
                    &address.span,
                    format!("a partition cannot have memory at {}", show_range(address.value, size.value)),
                )
                .help(format!("choose addresses from {first:#x} to {last:#x}, or leave `address` away"));
        }
    }
    for name in manifest.partition_names() {
        let in_partition = |memory: &Memory| memory.partitions().iter().any(|partition| partition.value == name);
        let ranges = fixed(&manifest.memories, |memory| in_partition(memory).then_some(memory.address.as_ref()?.value));
        let help = format!("both are in partition `{name}`: move one, or leave `address` away");
        context.overlaps("memory::addresses_overlap", &ranges, show_range, &help);
    }
}

/// From here up no address is assigned by the compiler: a manifest may choose it.
pub(crate) const FIXED_ADDRESSES: u64 = 0x4000_0000_0000;

/// Memory belongs to native partitions that exist, and to at least one.
pub(super) fn owners_are_known(context: &Context<'_>) {
    let names = context.manifest.partition_names();
    for memory in &context.manifest.memories {
        for owner in memory.partitions().iter().filter(|owner| !names.contains(&owner.value.as_str())) {
            context.unknown("memory::owner_unknown", owner, "native partition", &names);
        }
        if memory.partitions.as_ref().is_some_and(Vec::is_empty) {
            context
                .reporter
                .error("memory::owner_unknown", &memory.name.span, format!("nobody has memory `{}`", memory.name.value))
                .help("list at least one partition in `partitions`");
        }
    }
}

/// All that the manifest asks for fits into the machine.
pub(super) fn everything_fits_the_machine(context: &Context<'_>) {
    let manifest = context.manifest;
    let sum = |sizes: &mut dyn Iterator<Item = u64>| sizes.fold(0u64, u64::saturating_add);
    let guests = sum(&mut manifest.guests.iter().filter_map(|guest| Some(guest.memory.as_ref()?.value)));
    let stacks = |guest: &Guest| (guest.cpus.len() as u64).saturating_mul(layout::STACK_BYTES);
    let monitors =
        sum(&mut manifest.guests.iter().map(|guest| guest.monitor_memory.value.saturating_add(stacks(guest))));
    let partitions = sum(&mut manifest
        .partitions
        .iter()
        .map(|partition| partition.heap.value.saturating_add(partition.stack.value)));
    let channels = sum(&mut manifest.channels.iter().map(|channel| channel.memory.value));
    let memories = sum(&mut manifest.memories.iter().filter_map(|memory| Some(memory.size.as_ref()?.value)));
    let disks = manifest.disks().filter(|(_, disk)| disk.is_copied).map(|_| bulkhead_block_client::MEMORY_BYTES as u64);
    let disks = sum(&mut disks.into_iter());
    let ring = manifest.trace.as_ref().map_or(0, Trace::ring_bytes);
    let rings = ring.saturating_mul(manifest.machine.cpus.value);
    // Page tables take a 512th of what they map, for guests twice.
    let tables = guests / 256;
    let parts = [
        ("guests", guests),
        ("partitions and monitors", partitions.saturating_add(monitors)),
        ("channels and memory", channels.saturating_add(memories).saturating_add(disks)),
        ("kernel and tables", KERNEL_BYTES + tables),
        ("trace rings", rings),
        ("modules", context.files.total_bytes()),
    ];
    let needed = sum(&mut parts.iter().map(|(_, bytes)| *bytes));
    let machine = &manifest.machine.memory;
    if needed > machine.value {
        let list: Vec<String> = parts.iter().map(|(what, bytes)| format!("{what} {}", show_size(*bytes))).collect();
        context
            .reporter
            .error(
                "memory::does_not_fit",
                &machine.span,
                format!("{} of memory is too little: the system needs {}", show_size(machine.value), show_size(needed)),
            )
            .label("the machine's memory")
            .help(format!("raise `memory` in [machine], or ask for less; now {}", list.join(", ")));
    }
}
