//! `[system]` and `[machine]`.

use super::table::TableReader;
use crate::{
    machine::{self, Device, InterruptLine, PortRange},
    model::{EndCondition, Located, Machine, Node, System},
    pci::{DEFAULT_VECTORS, PciDevice, Selection},
};

/// Memory of a machine whose manifest does not say it.
const DEFAULT_MEMORY: u64 = 512 << 20;

pub(super) fn system(root: &TableReader<'_, '_>, file_stem: &str) -> System {
    let Some(table) = root.table("system") else {
        let end = root.default(EndCondition::GuestsOff);
        return System { name: root.default(file_stem.to_owned()), end, dump: false };
    };
    let system = System {
        name: table.string("name").unwrap_or_else(|| table.default(file_stem.to_owned())),
        end: end(&table),
        dump: table.boolean("dump", false),
    };
    table.finish();
    system
}

/// `end`. One that cannot be read waits for nobody, so that nothing else is said about it.
fn end(table: &TableReader<'_, '_>) -> Located<EndCondition> {
    const HELP: &str = r#"write "guests-off", "never", { partition = "NAME" } or { after = "30 s" }"#;
    let Some(field) = table.field("end") else {
        return table.default(EndCondition::GuestsOff);
    };
    let mut end = EndCondition::Never;
    if field.as_table().is_some()
        && let Some(inner) = table.table("end")
    {
        let partition = inner.string("partition").map(EndCondition::Partition);
        let after = inner.time("after").map(|time| EndCondition::AfterMicroseconds(time.value));
        let conditions = ["partition", "after"].into_iter().filter(|key| inner.field(key).is_some());
        if conditions.count() != 1 {
            table.report(&field.span, "read::value", "an end is one condition").help(HELP);
        }
        inner.finish();
        end = partition.or(after).unwrap_or(end);
    } else {
        match field.as_str() {
            Some("guests-off") => end = EndCondition::GuestsOff,
            Some("never") => {}
            Some(other) => {
                let message = format!("there is no end condition `{other}`");
                table.report(&field.span, "read::value", message).help(HELP);
            }
            None => table.wrong_type(&field, "an end condition", HELP),
        }
    }
    Located::new(end, field.span)
}

pub(super) fn machine(root: &TableReader<'_, '_>) -> Machine {
    let mut devices = machine::built_in();
    let Some(table) = root.table("machine") else {
        return Machine {
            cpus: root.default(1),
            memory: root.default(DEFAULT_MEMORY),
            disk: None,
            iommu: false,
            nodes: Vec::new(),
            devices,
        };
    };
    for described in table.named_tables("device").into_iter().map(device) {
        devices.retain(|built_in| built_in.name != described.name);
        devices.push(described);
    }
    let machine = Machine {
        cpus: table.integer("cpus").unwrap_or_else(|| table.default(1)),
        memory: table.size("memory").unwrap_or_else(|| table.default(DEFAULT_MEMORY)),
        disk: table.size("disk"),
        iommu: table.boolean("iommu", false),
        nodes: table.tables("node").into_iter().map(node).collect(),
        devices,
    };
    table.finish();
    machine
}

fn node(table: TableReader<'_, '_>) -> Node {
    let node =
        Node { span: table.span.clone(), memory: table.require("memory", TableReader::size), cpus: table.cpus("cpus") };
    table.finish();
    node
}

fn device(table: TableReader<'_, '_>) -> Device {
    let mut device = Device {
        name: table.name.clone(),
        ports: Vec::new(),
        interrupts: Vec::new(),
        pci: pci(&table),
        span: Some(table.span.clone()),
    };
    for range in table.tables("ports") {
        let first = range.require("first", TableReader::integer);
        let count = range.require("count", TableReader::integer);
        range.finish();
        if let (Some(first), Some(count)) = (first, count) {
            device.ports.push(PortRange { first: first.value, count: count.value });
        }
    }
    for interrupt in table.tables("interrupts") {
        let line = interrupt.require("line", TableReader::integer);
        let level = word(&interrupt, "trigger", ["edge", "level"]);
        let active_low = word(&interrupt, "polarity", ["high", "low"]);
        interrupt.finish();
        if let Some(line) = line {
            device.interrupts.push(InterruptLine { line: line.value, level, active_low });
        }
    }
    table.finish();
    device
}

/// What makes a device one on the PCI bus: `model` or `pci`, with what belongs to them.
fn pci(table: &TableReader<'_, '_>) -> Option<PciDevice> {
    let model = table.string("model");
    let selection = table.table("pci").map(|inner| {
        let selection = Selection {
            span: inner.span.clone(),
            vendor: inner.integer("vendor"),
            device: inner.integer("device"),
            class: inner.string("class"),
            address: inner.string("address"),
        };
        inner.finish();
        selection
    });
    let vectors = table.integer("vectors");
    let disk = table.size("disk");
    if model.is_none() && selection.is_none() {
        for span in vectors.iter().map(|read| &read.span).chain(disk.iter().map(|read| &read.span)) {
            table
                .report(span, "pci::not_on_the_bus", format!("device `{}` is not on the PCI bus", table.name))
                .help("`vectors` and `disk` belong to a `model` or `pci`; a list `interrupts` names lines");
        }
    }
    let vectors = vectors.unwrap_or_else(|| table.default(DEFAULT_VECTORS));
    (model.is_some() || selection.is_some()).then_some(PciDevice { model, selection, vectors, disk })
}

/// Whether a key has the second of two values; the first is the default.
fn word(table: &TableReader<'_, '_>, key: &'static str, [no, yes]: [&str; 2]) -> bool {
    let Some(read) = table.string(key) else {
        return false;
    };
    if read.value != no && read.value != yes {
        table
            .report(&read.span, "read::value", format!("there is no {key} `{}`", read.value))
            .help(format!(r#"write "{no}" or "{yes}""#));
    }
    read.value == yes
}
