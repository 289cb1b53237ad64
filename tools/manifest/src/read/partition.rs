//! `[partition.NAME]`.

use super::{console, restart, schedule, table::TableReader};
use crate::model::{Disk, Inject, Located, Partition};
use bulkhead_plan::{Fault, layout};

/// Heap of a partition that does not say its memory.
const DEFAULT_HEAP: u64 = 256 << 10;

pub(super) fn partition(table: TableReader<'_, '_>) -> Partition {
    let partition = Partition {
        name: Located::new(table.name.clone(), table.span.clone()),
        program: table.require("program", TableReader::string),
        cpu: table.integer("cpu").unwrap_or_else(|| table.default(0)),
        schedule: schedule(&table),
        heap: table.size("memory").unwrap_or_else(|| table.default(DEFAULT_HEAP)),
        node: table.integer("node"),
        stack: table.size("stack").unwrap_or_else(|| table.default(layout::STACK_BYTES)),
        devices: table.strings("devices"),
        restart: restart(&table),
        watchdog_us: table.time("watchdog"),
        inject: table.table("inject").map(|table| inject(&table)),
        console: console(&table),
        must_finish: table.boolean("must_finish", false),
        level: table.string("level"),
        capabilities: table.boolean("capabilities", false),
        settings: table.table("settings").map(|settings| settings.free_strings()).unwrap_or_default(),
        disks: table.tables("disk").into_iter().map(disk).collect(),
        is_added: false,
    };
    table.finish();
    partition
}

/// `[[partition.NAME.disk]]`.
fn disk(table: TableReader<'_, '_>) -> Disk {
    let disk = Disk {
        span: table.span.clone(),
        service: table.require("service", TableReader::string),
        offset: table.size("offset").unwrap_or_else(|| table.default(0)),
        size: table.require("size", TableReader::size),
        read_only: table.boolean("read_only", false),
        data: None,
        is_copied: true,
        withheld: 0,
        control: false,
    };
    table.finish();
    disk
}

/// `inject`.
pub(super) fn inject(table: &TableReader<'_, '_>) -> Inject {
    let fault = table.require("fault", TableReader::string);
    let fault = match fault.as_ref().map(|fault| fault.value.as_str()) {
        Some("kill") => Fault::Kill,
        Some("hang") => Fault::Hang,
        Some("crash") => Fault::Crash,
        Some("loop") => Fault::Loop,
        Some("exhaust") => Fault::Exhaust,
        Some("flood") => Fault::Flood,
        other => {
            if let (Some(fault), Some(other)) = (&fault, other) {
                let message = format!("there is no fault `{other}`");
                table
                    .report(&fault.span, "read::value", message)
                    .help(r#"write "kill", "hang", "crash", "loop", "exhaust" or "flood""#);
            }
            Fault::None
        }
    };
    let microseconds = |key| table.time(key).map_or(1_000_000, |time| time.value);
    let inject = Inject {
        span: table.span.clone(),
        fault,
        after_us: microseconds("after"),
        every_us: microseconds("every"),
        times: table.integer("times").map_or(1, |times| times.value),
    };
    table.finish();
    inject
}
