//! Traces.

use super::Context;
use crate::{
    compile::MAX_TRACE_MEMORY,
    model::{Subject, TRACE},
    read::show_size,
};
use bulkhead_abi::PAGE_SIZE;

/// Rings have a power of two of pages.
pub(super) fn rings_are_sound(context: &Context<'_>) {
    let memory = context.manifest.trace.as_ref().and_then(|trace| trace.memory.as_ref());
    let is_sound = |bytes: u64| bytes.is_power_of_two() && (PAGE_SIZE..=MAX_TRACE_MEMORY).contains(&bytes);
    if let Some(memory) = memory.filter(|memory| !is_sound(memory.value)) {
        context
            .reporter
            .error("trace::ring_size", &memory.span, format!("{} cannot be a trace ring", show_size(memory.value)))
            .help("write a power of two from 4 KiB to 16 MiB, such as \"256 KiB\"; each CPU gets so much");
    }
}

/// The partition that writes the rings out has its name for itself.
pub(super) fn writer_is_reserved(context: &Context<'_>) {
    if context.manifest.trace.is_none() {
        return;
    }
    let named_so = context.manifest.subjects().filter(|subject| subject.name().value == TRACE);
    for subject in named_so.filter(|subject| !subject.is_added()) {
        context
            .reporter
            .error(
                "trace::name_taken",
                &subject.name().span,
                "`trace` is the partition that writes out the trace rings",
            )
            .help("give this one another name");
    }
}

/// Somebody shows what is written.
pub(super) fn somebody_shows_it(context: &Context<'_>) {
    let manifest = context.manifest;
    let writer = manifest.partitions.iter().find(|partition| partition.is_added && partition.name.value == TRACE);
    if let Some(writer) = writer.filter(|writer| manifest.console_of(Subject::Partition(writer)).is_none()) {
        context
            .reporter
            .warning(
                "trace::nobody_shows_it",
                &writer.name.span,
                "the trace is written to a console, and there is none",
            )
            .help("add a partition `console` with `program = \"console\"` and `devices = [\"com1\"]`");
    }
}
