//! `[partition.NAME]`.

use super::{console, restart, schedule, table::TableReader};
use crate::model::{Located, Partition};
use bulkhead_plan::layout;

/// Heap of a partition that does not say its memory.
const DEFAULT_HEAP: u64 = 256 << 10;

pub(super) fn partition(table: TableReader<'_, '_>) -> Partition {
    let partition = Partition {
        name: Located::new(table.name.clone(), table.span.clone()),
        program: table.require("program", TableReader::string),
        cpu: table.integer("cpu").unwrap_or_else(|| table.default(0)),
        schedule: schedule(&table),
        heap: table.size("memory").unwrap_or_else(|| table.default(DEFAULT_HEAP)),
        stack: table.size("stack").unwrap_or_else(|| table.default(layout::STACK_BYTES)),
        devices: table.strings("devices"),
        restart: restart(&table),
        console: console(&table),
        must_finish: table.boolean("must_finish", false),
        settings: table.table("settings").map(|settings| settings.free_strings()).unwrap_or_default(),
    };
    table.finish();
    partition
}
