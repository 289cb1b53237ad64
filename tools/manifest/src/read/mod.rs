//! From TOML to the model: every key is read by name, with its type; all that is unknown, missing or of another type is
//! reported, and reading goes on.

mod guest;
mod include;
mod partition;
mod rest;
mod system;
mod table;
mod units;

pub(crate) use rest::DEFAULT_CHANNEL_MEMORY;
pub(crate) use units::{show_size, show_time};

use crate::{
    diagnostic::Reporter,
    keys::ROOT,
    model::{Console, Located, Manifest, Restart, RestartRule, Schedule},
};
use std::path::Path;
use table::TableReader;

/// Priority of a partition or guest that does not say one.
const DEFAULT_PRIORITY: u64 = 20;

/// Reads a whole manifest, with the files that it includes.
pub(crate) fn manifest(text: &str, reporter: &Reporter, path: &Path) -> Manifest {
    let files = include::files(reporter, path, text);
    let (table, is_toml) = include::merged(&files, reporter);
    let root = TableReader::new(reporter, &table, 0..0, "the manifest".to_owned(), &ROOT).with_sizes();
    root.was_read("include");
    let stem = path.file_stem().map_or_else(|| "system".into(), |stem| stem.to_string_lossy());
    let mut manifest = Manifest {
        system: system::system(&root, &stem),
        machine: system::machine(&root),
        partitions: root.named_tables("partition").into_iter().map(partition::partition).collect(),
        guests: root.named_tables("guest").into_iter().map(guest::guest).collect(),
        channels: root.named_tables("channel").into_iter().map(rest::channel).collect(),
        endpoints: root.named_tables("endpoint").into_iter().map(rest::endpoint).collect(),
        memories: root.named_tables("memory").into_iter().map(rest::memory).collect(),
        switches: root.named_tables("switch").into_iter().map(rest::switch).collect(),
        frames: root.named_tables("cpu").into_iter().map(rest::frame).collect(),
        policy: root.table("policy").map(|table| rest::policy(&table)).unwrap_or_default(),
        trace: root.table("trace").map(|table| rest::trace(&table)),
    };
    manifest.locate_files(|span| reporter.directory(span));
    // After a heading that cannot be read, keys seem to stand outside all tables.
    if is_toml {
        root.finish();
    }
    manifest
}

/// `priority`, `budget`, `period`.
fn schedule(table: &TableReader<'_, '_>) -> Schedule {
    Schedule {
        priority: table.integer("priority").unwrap_or_else(|| table.default(DEFAULT_PRIORITY)),
        budget_us: table.time("budget"),
        period_us: table.time("period"),
    }
}

/// `restart`: a word, or a table with a limit, a backoff, or both.
fn restart(table: &TableReader<'_, '_>) -> RestartRule {
    const HELP: &str = r#"write "never", "always" or { limit = 3, backoff = "100 ms" }"#;
    let Some(field) = table.field("restart") else {
        return Restart::Never.into();
    };
    if field.as_table().is_some() {
        let Some(inner) = table.table("restart") else {
            return Restart::Never.into();
        };
        let backoff_us = inner.time("backoff");
        let policy = if backoff_us.is_some() {
            inner.integer("limit").map_or(Restart::Always, |limit| Restart::Limit(limit.value))
        } else {
            let limit = inner.require("limit", TableReader::integer);
            limit.map_or(Restart::Never, |limit| Restart::Limit(limit.value))
        };
        inner.finish();
        return RestartRule { policy, backoff_us };
    }
    let policy = match field.as_str() {
        Some("never") => Restart::Never,
        Some("always") => Restart::Always,
        Some(other) => {
            table.report(&field.span, "read::value", format!("there is no restart policy `{other}`")).help(HELP);
            Restart::Never
        }
        None => {
            table.wrong_type(&field, "a restart policy", HELP);
            Restart::Never
        }
    };
    policy.into()
}

/// `console`: a partition's name, or `false`.
fn console(table: &TableReader<'_, '_>) -> Console {
    const HELP: &str = "write the name of a partition, or false for no console";
    let Some(field) = table.field("console") else {
        return Console::Default;
    };
    if let Some(name) = field.as_str() {
        return Console::Named(Located::new(name.to_owned(), field.span.clone()));
    }
    if field.as_bool() != Some(false) {
        table.wrong_type(&field, "the name of a partition, or false", HELP);
    }
    Console::Off
}
