//! From TOML to the model: every key is read by name, with its type; all that is unknown, missing or of another type is
//! reported, and reading goes on.

mod guest;
mod partition;
mod rest;
mod system;
mod table;
mod units;

pub(crate) use rest::DEFAULT_CHANNEL_MEMORY;
pub(crate) use units::{show_size, show_time};

use crate::{
    diagnostic::{Reporter, SYNTAX},
    model::{Console, Located, Manifest, Restart, RestartRule, Schedule},
};
use std::path::Path;
use table::TableReader;
use toml::de::DeTable;

/// Priority of a partition or guest that does not say one.
const DEFAULT_PRIORITY: u64 = 20;

/// Reads a whole manifest.
pub(crate) fn manifest(text: &str, reporter: &Reporter, path: &Path) -> Manifest {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut is_toml = true;
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        if error.message().contains("duplicate") {
            let key = text.get(span.clone()).unwrap_or_default();
            reporter
                .error("toml::duplicate_key", &span, format!("`{key}` stands twice in one table"))
                .help("give the second one another name, or remove it");
        } else {
            is_toml = false;
            reporter
                .error(SYNTAX, &span, error.message())
                .help("manifests are TOML: `key = value` lines under `[table]` headings");
        }
    }
    let root = TableReader::new(reporter, document.get_ref(), 0..0, "the manifest".to_owned());
    let stem = path.file_stem().map_or_else(|| "system".into(), |stem| stem.to_string_lossy());
    let manifest = Manifest {
        system: system::system(&root, &stem),
        machine: system::machine(&root),
        partitions: root.named_tables("partition").into_iter().map(partition::partition).collect(),
        guests: root.named_tables("guest").into_iter().map(guest::guest).collect(),
        channels: root.named_tables("channel").into_iter().map(rest::channel).collect(),
        endpoints: root.named_tables("endpoint").into_iter().map(rest::endpoint).collect(),
        memories: root.named_tables("memory").into_iter().map(rest::memory).collect(),
        switches: root.named_tables("switch").into_iter().map(rest::switch).collect(),
        policy: root.table("policy").map(|table| rest::policy(&table)).unwrap_or_default(),
    };
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
