//! The tables of keys in the documentation.

use super::{Kind, ROOT, Table};
use crate::PROGRAMS;
use bulkhead_machine::policy::withheld::FEATURES;
use std::fmt::Write;

/// Every table that has a place of its own in the documentation: its name, and its keys as a Markdown table.
pub(crate) fn reference() -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    collect(&ROOT, &mut found);
    found
}

fn collect(table: &'static Table, found: &mut Vec<(&'static str, String)>) {
    if !table.name.is_empty() {
        let mut text = "| key | value | default | meaning |\n| --- | --- | --- | --- |\n".to_owned();
        rows(table, "", &mut text);
        found.push((table.name, text));
    }
    table.keys.iter().filter_map(|key| key.kind.table()).for_each(|inner| collect(inner, found));
}

/// The rows of a table; those of tables without a place of their own follow the key that they belong to.
fn rows(table: &Table, prefix: &str, text: &mut String) {
    for key in table.keys {
        let inner = key.kind.table();
        if inner.is_some_and(|inner| !inner.name.is_empty()) {
            continue;
        }
        let name = format!("{prefix}{}", key.name);
        let default = key.if_missing();
        let _ = writeln!(text, "| `{name}` | {} | {default} | {} |", value(key.kind), key.documentation);
        if let Some(inner) = inner {
            rows(inner, &format!("{name}."), text);
        }
    }
}

/// What a value is, in words.
fn value(kind: Kind) -> String {
    or(alternatives(kind))
}

fn or(words: Vec<String>) -> String {
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => words.concat(),
    }
}

fn alternatives(kind: Kind) -> Vec<String> {
    let one = match kind {
        Kind::Word(words) => return words.iter().map(|word| format!("`\"{word}\"`")).collect(),
        Kind::Either(kinds) => return kinds.iter().flat_map(|kind| alternatives(*kind)).collect(),
        Kind::Text => "text",
        Kind::Form(what, _) => what,
        Kind::Name => "name",
        Kind::Size => "size",
        Kind::Time => "time",
        Kind::Boolean => "`true` or `false`",
        Kind::False => "`false`",
        Kind::Table(_) | Kind::Named(_) | Kind::Numbered(_) => "table",
        Kind::Tables(_) => "list of tables",
        Kind::Texts => "table of texts",
        Kind::Sizes => "table of sizes",
        Kind::Program => return vec![format!("program: {}", or(programs().map(|name| format!("`{name}`")).collect()))],
        Kind::Feature => return FEATURES.iter().map(|feature| format!("`\"{}\"`", feature.name)).collect(),
        Kind::Integer(least, super::MAX) => return vec![format!("number, at least {least}")],
        Kind::Integer(least, most) => return vec![format!("number, {least} to {most}")],
        Kind::List(&Kind::Integer(least, most)) => return vec![format!("list of numbers, {least} to {most}")],
        Kind::List(Kind::Name) => "list of names",
        Kind::List(item) => return vec![format!("list, each {}", value(*item))],
    };
    vec![one.to_owned()]
}

/// Programs that a manifest asks for: the others come by themselves.
pub(super) fn programs() -> impl Iterator<Item = &'static str> {
    PROGRAMS.into_iter().filter(|name| !crate::files::ADDED.contains(name))
}
