//! NUMA nodes.

use super::Context;
use crate::{
    model::{Located, Memory, Partition, Subject},
    read::show_size,
};

const MIB: u64 = 1 << 20;

impl Context<'_> {
    /// Everybody who says a node, with what it is called, and its bytes there.
    fn placed(&self) -> Vec<(&Located<u64>, String, u64)> {
        let manifest = self.manifest;
        let memories = manifest.memories.iter().filter_map(|memory| {
            let size = memory.size.as_ref().map_or(0, |size| size.value);
            Some((memory.node.as_ref()?, format!("memory `{}`", memory.name.value), size))
        });
        let subjects = manifest.subjects().filter_map(|subject| {
            let (kind, size) = match subject {
                Subject::Partition(Partition { heap, stack, .. }) => {
                    ("partition", heap.value.saturating_add(stack.value))
                }
                Subject::Guest(guest) => {
                    let memory = guest.memory.as_ref().map_or(0, |memory| memory.value);
                    ("guest", memory.saturating_add(guest.monitor_memory.value))
                }
            };
            Some((subject.node()?, format!("{kind} `{}`", subject.name().value), size))
        });
        memories.chain(subjects).collect()
    }
}

/// The nodes of the machine are all of its memory.
pub(super) fn nodes_are_all_memory(context: &Context<'_>) {
    let machine = &context.manifest.machine;
    let sizes: Vec<_> = machine.nodes.iter().filter_map(|node| node.memory.as_ref()).collect();
    for size in sizes.iter().filter(|size| size.value == 0 || !size.value.is_multiple_of(MIB)) {
        context
            .reporter
            .error("nodes::not_whole_mebibytes", &size.span, format!("a node cannot have {}", show_size(size.value)))
            .help("write whole MiB, at least one");
    }
    let sum = sizes.iter().fold(0u64, |sum, size| sum.saturating_add(size.value));
    if let Some(first) = sizes.first().filter(|_| sum != machine.memory.value) {
        let (has, nodes) = (show_size(machine.memory.value), show_size(sum));
        context
            .reporter
            .error("nodes::not_all_memory", &first.span, format!("the nodes have {nodes}, and the machine {has}"))
            .also(&machine.memory.span, "the machine's memory")
            .help("each byte of the machine's memory belongs to one node");
    }
}

/// Each CPU of the machine is on one node.
pub(super) fn nodes_have_all_cpus(context: &Context<'_>) {
    let machine = &context.manifest.machine;
    let Some(first) = machine.nodes.first() else { return };
    let all: Vec<_> = machine.nodes.iter().flat_map(|node| &node.cpus).collect();
    for (place, cpu) in all.iter().enumerate() {
        if cpu.value >= machine.cpus.value {
            context
                .reporter
                .error("nodes::cpu_unknown", &cpu.span, format!("CPU {} is not there", cpu.value))
                .also(&machine.cpus.span, "the machine's CPUs")
                .help("CPUs are numbered from 0");
        } else if let Some(other) = all.iter().take(place).find(|other| other.value == cpu.value) {
            context
                .reporter
                .error("nodes::cpu_twice", &cpu.span, format!("CPU {} is on two nodes", cpu.value))
                .also(&other.span, "the other one")
                .help("a CPU is on one node");
        }
    }
    let missing = (0..machine.cpus.value.min(64)).find(|number| all.iter().all(|cpu| cpu.value != *number));
    if let Some(missing) = missing {
        context
            .reporter
            .error("nodes::cpu_missing", &first.span, format!("CPU {missing} is on no node"))
            .help("list each CPU of the machine in the `cpus` of one node");
    }
}

/// Whoever wants a node wants one that there can be, and that the manifest knows, if it knows any.
pub(super) fn nodes_are_known(context: &Context<'_>) {
    let nodes = context.manifest.machine.nodes.len() as u64;
    for (node, what, _) in context.placed() {
        if node.value >= u64::from(u32::MAX) {
            context
                .reporter
                .error("nodes::number_out_of_range", &node.span, format!("{} is no node", node.value))
                .help("numbers of nodes have 32 bits");
        } else if nodes != 0 && node.value >= nodes {
            context
                .reporter
                .error(
                    "nodes::unknown",
                    &node.span,
                    format!("{what} wants node {}, which the machine does not have", node.value),
                )
                .help(format!("[[machine.node]] describes {nodes}, numbered from 0"));
        }
    }
}

/// What is wanted of a node fits into its memory.
pub(super) fn nodes_have_enough(context: &Context<'_>) {
    for (number, node) in (0..).zip(&context.manifest.machine.nodes) {
        let Some(memory) = &node.memory else { continue };
        let placed = context.placed().into_iter().filter(|(wanted, ..)| wanted.value == number);
        let placed: Vec<_> = placed.map(|(_, what, size)| (what, size)).collect();
        let sum = placed.iter().fold(0u64, |sum, (_, size)| sum.saturating_add(*size));
        if sum > memory.value {
            let list: Vec<_> = placed.iter().map(|(what, size)| format!("{what} {}", show_size(*size))).collect();
            let message =
                format!("node {number} has {}, and {} of it are wanted", show_size(memory.value), show_size(sum));
            context
                .reporter
                .error("nodes::not_enough", &memory.span, message)
                .help(format!("give the node more, or ask for less; now {}", list.join(", ")));
        }
    }
}

/// Memory at a fixed address is on the node that has this address.
pub(super) fn fixed_memory_is_where_it_is(context: &Context<'_>) {
    for Memory { node, physical, .. } in &context.manifest.memories {
        if let (Some(node), Some(physical)) = (node, physical) {
            context
                .reporter
                .error("nodes::fixed_address", &node.span, "memory at a fixed address cannot be on a node of choice")
                .also(&physical.span, "the fixed address")
                .help("leave one of them out");
        }
    }
}

/// Who runs on a CPU of another node waits longer for its memory.
pub(super) fn cpus_are_near(context: &Context<'_>) {
    let nodes = &context.manifest.machine.nodes;
    let node_of = |cpu: u64| (0u64..).zip(nodes).find(|(_, node)| node.cpus.iter().any(|one| one.value == cpu));
    for subject in context.manifest.subjects() {
        let Some(node) = subject.node().filter(|node| node.value < nodes.len() as u64) else { continue };
        for cpu in subject.cpus() {
            if let Some((other, _)) = node_of(cpu.value).filter(|(other, _)| *other != node.value) {
                let name = &subject.name().value;
                context
                    .reporter
                    .warning(
                        "nodes::cpu_is_far",
                        &node.span,
                        format!(
                            "`{name}` runs on CPU {} of node {other}, and its memory is on node {}",
                            cpu.value, node.value
                        ),
                    )
                    .also(&cpu.span, "its CPU")
                    .help("choose a CPU of the memory's node: each access to memory of another one takes longer");
                break;
            }
        }
    }
}
