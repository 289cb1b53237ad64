//! NUMA nodes: from which of them the memory of a partition comes.
//!
//! Memory that the plan wants on a node is taken first, before anybody else takes what lies there. Where that cannot be, it is taken
//! anywhere, so that what others share with its owner stays whole, and the owner is refused.

use crate::acpi;
use crate::allocator::{Allocator, Block, object_pages};
use crate::construct::{Built, Construction};
use crate::failure::Cause;
use alloc::collections::BTreeSet;
use alloc::vec;
use bulkhead_affinity::{Affinity, Malformed, Misplaced, srat_length};
use bulkhead_runtime::abi::{BootInfo, GuestPaging, PAGE_SIZE};
use bulkhead_runtime::object::{NewObject, Partition, Window};
use bulkhead_runtime::plan::{self, EntryKind, NO_INDEX, PartitionKind, Plan, RegionRecord, Resource};
use bulkhead_runtime::println;
use bulkhead_runtime::syscall::Slot;

/// What is known of the machine's nodes, or why nothing is.
#[derive(Debug)]
pub struct Nodes(Result<Affinity, Misplaced>);

impl Nodes {
    /// What the ACPI table SRAT says, if the plan asks for a node.
    pub fn find(boot: &BootInfo, plan: &Plan<'_>, allocator: &mut Allocator) -> Result<Self, Cause> {
        let regions = plan.regions().iter().any(|region| region.node != NO_INDEX);
        if !regions && plan.partitions().all(|partition| partition.record.node == NO_INDEX) {
            return Ok(Self(Err(Misplaced::NoTable)));
        }
        let mut header = [0; 8];
        if !acpi::read(boot, allocator, boot.srat, &mut header)? {
            return Ok(Self(Err(Misplaced::NoTable)));
        }
        let Some(length) = srat_length(&header) else {
            return Ok(Self(Err(Misplaced::BadTable(Malformed::Table))));
        };
        let mut table = vec![0; length];
        acpi::read(boot, allocator, boot.srat, &mut table)?;
        Ok(Self(Affinity::parse(&table).map_err(Misplaced::BadTable)))
    }

    /// The machine's nodes, if this is one of them.
    fn with(&self, node: u32) -> Result<&Affinity, Misplaced> {
        let affinity = self.0.as_ref().map_err(|why| *why)?;
        affinity.memory_of(node).next().map(|_| affinity).ok_or(Misplaced::NoNode)
    }

    /// Takes a region's memory from its node; if that cannot be, from anywhere, and says why.
    pub fn take(&self, allocator: &mut Allocator, region: &RegionRecord) -> Result<(Block, Option<Misplaced>), Cause> {
        let full = Misplaced::Full(region.size);
        let place = self.with(region.node).and_then(|affinity| {
            allocator.place_on(affinity.memory_of(region.node), region.size, region.alignment).ok_or(full)
        });
        match place {
            Ok(start) => Ok((allocator.take_at(start, region.size)?, None)),
            Err(why) => Ok((allocator.take(region.size, region.alignment)?, Some(why))),
        }
    }
}

impl Construction<'_> {
    /// Whether all memory of a partition comes from the nodes that the plan says.
    pub fn is_placed(&self, partition: &plan::Partition<'_>) -> Result<(), Cause> {
        for grant in partition.grants() {
            // A service that sees a guest's memory works without that guest.
            let is_own = grant.entry.kind() != Some(EntryKind::GuestMemory) || partition.kind() == PartitionKind::Guest;
            if let Resource::Region { index, .. } = grant.resource
                && let Some(record) = self.plan.regions().get(index)
                && let Some(why) = self.regions.get(index).and_then(|region| region.misplaced).filter(|_| is_own)
            {
                return Err(Cause::Node { node: record.node, why });
            }
        }
        let node = partition.record.node;
        if node != NO_INDEX {
            // In one piece, so that whatever of it is taken first, the rest fits behind.
            let bytes = private_bytes(partition);
            let affinity = self.nodes.with(node).map_err(|why| Cause::Node { node, why })?;
            if self.allocator.place_on(affinity.memory_of(node), bytes, PAGE_SIZE).is_none() {
                return Err(Cause::Node { node, why: Misplaced::Full(bytes) });
            }
        }
        Ok(())
    }

    /// From now on all memory is taken from a partition's node, if the plan says one; with none, from anywhere again.
    pub fn confine(&mut self, partition: Option<&plan::Partition<'_>>) {
        let node = partition.map(|partition| partition.record.node).filter(|node| *node != NO_INDEX);
        let ranges = node.and_then(|node| Some(self.nodes.with(node).ok()?.memory_of(node).collect()));
        self.allocator.confine(ranges);
    }

    /// Says which CPUs of a partition are on other nodes than its memory.
    pub fn compare_nodes(&self, built: &Built) {
        let Ok(affinity) = &self.nodes.0 else { return };
        let regions = built.plan.grants().filter_map(|grant| match grant.resource {
            Resource::Region { index, .. } if grant.entry.kind() != Some(EntryKind::GuestMemory) => {
                self.plan.regions().get(index).map(|region| region.node)
            }
            _ => None,
        });
        let wanted: BTreeSet<u32> = regions.chain([built.plan.record.node]).filter(|node| *node != NO_INDEX).collect();
        let cpus: BTreeSet<u32> = built.plan.threads().iter().map(|thread| thread.cpu).collect();
        for cpu in cpus {
            let apic_id = self.boot.apic_ids.get(cpu as usize);
            let Some(own) = apic_id.and_then(|apic_id| affinity.node_of_processor(*apic_id)) else { continue };
            for node in wanted.iter().filter(|node| **node != own) {
                let name = built.plan.name();
                println!(
                    "bulkhead: partition {name} runs on CPU {cpu} of NUMA node {own}, and has memory of node {node}"
                );
            }
        }
    }
}

/// Bytes that building a partition takes beside its regions, at most.
fn private_bytes(partition: &plan::Partition<'_>) -> u64 {
    let record = partition.record;
    let pages = |object| object_pages(object) * PAGE_SIZE;
    let slot = Slot(0);
    let thread = pages(NewObject::Thread { partition: Partition(slot), window: Window(slot) })
        + pages(NewObject::Window { parent: Window(slot) })
        + pages(NewObject::Notification);
    let threads: u64 = partition.threads().iter().map(|record| thread + record.stack_bytes).sum();
    let guest = partition.guest().map_or(0, |(_, guest)| {
        let space = pages(NewObject::GuestSpace { paging: GuestPaging::Ept });
        // A vCPU takes as much as a space.
        space * (1 + u64::from(guest.vcpus))
            + (u64::from(guest.pool_pages) + u64::from(guest.shadow_pages) + 1) * PAGE_SIZE
    });
    pages(NewObject::Partition { slots: record.table_slots.into() })
        + u64::from(record.pool_pages).max(1) * PAGE_SIZE
        + record.program_bytes
        + (partition.environment.bytes().len() as u64).next_multiple_of(PAGE_SIZE)
        + threads
        + guest
}
