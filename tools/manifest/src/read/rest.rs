//! `[cpu.N]`, `[channel.NAME]`, `[endpoint.NAME]`, `[memory.NAME]`, `[switch.NAME]`, `[policy]` and `[trace]`.

use super::table::TableReader;
use crate::model::{Channel, Endpoint, Frame, FrameWindow, Located, Memory, Policy, Switch, Trace};

/// Memory of a channel that does not say it.
pub(crate) const DEFAULT_CHANNEL_MEMORY: u64 = 16 << 10;

pub(super) fn channel(table: TableReader<'_, '_>) -> Channel {
    let between = table.require("between", TableReader::table);
    let end = |key| between.as_ref().and_then(|between| between.require(key, TableReader::string));
    let channel = Channel {
        name: Located::new(table.name.clone(), table.span.clone()),
        first: end("first"),
        second: end("second"),
        memory: table.size("memory").unwrap_or_else(|| table.default(DEFAULT_CHANNEL_MEMORY)),
        kind: table.string("kind"),
        direction: table.string("direction"),
    };
    if let Some(between) = between {
        between.finish();
    }
    table.finish();
    channel
}

pub(super) fn endpoint(table: TableReader<'_, '_>) -> Endpoint {
    let endpoint = Endpoint {
        name: Located::new(table.name.clone(), table.span.clone()),
        server: table.require("server", TableReader::string),
        clients: table.require("clients", |table, key| Some(table.strings(key))),
        worst_case_us: table.time("worst_case"),
    };
    table.finish();
    endpoint
}

pub(super) fn memory(table: TableReader<'_, '_>) -> Memory {
    let memory = Memory {
        name: Located::new(table.name.clone(), table.span.clone()),
        partitions: table.require("partitions", |table, key| Some(table.strings(key))),
        size: table.require("size", TableReader::size),
        physical: table.integer("physical"),
        node: table.integer("node"),
        address: table.integer("address"),
        read_only: table.boolean("read_only", false),
        dma: table.boolean("dma", false),
    };
    table.finish();
    memory
}

pub(super) fn switch(table: TableReader<'_, '_>) -> Switch {
    let switch = Switch { name: Located::new(table.name.clone(), table.span.clone()), allow: table.strings("allow") };
    table.finish();
    switch
}

pub(super) fn frame(table: TableReader<'_, '_>) -> Frame {
    let frame = Frame {
        cpu: Located::new(table.name.clone(), table.span.clone()),
        length_us: table.require("frame", TableReader::time),
        windows: table.tables("windows").into_iter().map(frame_window).collect(),
    };
    table.finish();
    frame
}

fn frame_window(table: TableReader<'_, '_>) -> FrameWindow {
    let window = FrameWindow {
        span: table.span.clone(),
        partitions: table.require("partitions", |table, key| Some(table.strings(key))).unwrap_or_default(),
        start_us: table.require("start", TableReader::time),
        length_us: table.require("length", TableReader::time),
    };
    table.finish();
    window
}

pub(super) fn trace(table: &TableReader<'_, '_>) -> Trace {
    let trace =
        Trace { span: table.span.clone(), memory: table.size("memory"), totals: table.boolean("totals", false) };
    table.finish();
    trace
}

pub(super) fn policy(table: &TableReader<'_, '_>) -> Policy {
    let policy =
        Policy { deny: table.strings("deny"), trusted: table.strings("trusted"), levels: table.strings("levels") };
    table.finish();
    policy
}
