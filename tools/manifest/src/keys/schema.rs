//! The language as a JSON schema, for editors.

use super::{Key, Kind, MAX, ROOT, Table, reference::programs};
use bulkhead_machine::policy::withheld::FEATURES;
use serde_json::{Map, Value, json};

/// Names that a manifest gives.
const NAME: &str = "^[a-z][a-z0-9-]{0,23}$";
const SIZE: &str = "^\\s*[0-9][0-9_]*\\s*(B|KiB|MiB|GiB)$";
const TIME: &str = "^\\s*[0-9]+(\\.[0-9]+)?\\s*(us|µs|ms|s)$";

/// The schema (JSON Schema, draft 2020-12).
pub(crate) fn schema() -> Value {
    let mut definitions = Map::new();
    definitions.insert("name".to_owned(), json!({ "type": "string", "pattern": NAME }));
    definitions.insert(
        "size".to_owned(),
        json!({
            "anyOf": [{ "type": "string", "pattern": SIZE }, { "$ref": "#/$defs/name" }],
            "examples": ["64 MiB"],
        }),
    );
    definitions.insert("time".to_owned(), json!({ "type": "string", "pattern": TIME, "examples": ["10 ms"] }));
    let mut schema = shape(&ROOT, &mut definitions);
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        schema.insert("title".to_owned(), json!("Manifest of Bulkhead"));
        schema.insert("$defs".to_owned(), Value::Object(definitions));
        // What this file lacks another one may have.
        schema.insert("if".to_owned(), json!({ "required": ["include"] }));
        schema.insert("else".to_owned(), Value::Object(requirements(&ROOT)));
    }
    schema
}

/// The keys of a table with their values. A table with a name becomes a definition.
fn shape(table: &'static Table, definitions: &mut Map<String, Value>) -> Value {
    let mut properties = Map::new();
    for key in table.keys {
        properties.insert(key.name.to_owned(), property(key, definitions));
    }
    let mut schema = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if let Some(schema) = schema.as_object_mut() {
        if !table.documentation.is_empty() {
            schema.insert("description".to_owned(), json!(plain(table.documentation)));
        }
        if table.is_choice {
            schema.insert("minProperties".to_owned(), json!(1));
            schema.insert("maxProperties".to_owned(), json!(1));
        }
    }
    if table.name.is_empty() {
        return schema;
    }
    definitions.insert(table.name.to_owned(), schema);
    reference(table.name)
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/$defs/{name}") })
}

fn property(key: &'static Key, definitions: &mut Map<String, Value>) -> Value {
    let mut schema = value(key.kind, definitions);
    let default = match key.if_missing() {
        missing if missing.is_empty() => missing,
        missing if key.is_required => format!(" {}.", capital(&missing)),
        missing => format!(" Default: {missing}."),
    };
    if let Some(schema) = schema.as_object_mut() {
        let documentation = plain(&format!("{}.{default}", capital(key.documentation)));
        schema.insert("description".to_owned(), json!(documentation));
    }
    schema
}

fn value(kind: Kind, definitions: &mut Map<String, Value>) -> Value {
    match kind {
        Kind::Text => json!({ "type": "string" }),
        Kind::Form(_, pattern) => json!({ "type": "string", "pattern": pattern }),
        Kind::Name => reference("name"),
        Kind::Program => json!({ "enum": programs().collect::<Vec<_>>() }),
        Kind::Feature => json!({ "enum": FEATURES.map(|feature| feature.name) }),
        Kind::Word(words) => json!({ "enum": words }),
        Kind::Size => reference("size"),
        Kind::Time => reference("time"),
        Kind::Integer(least, MAX) => json!({ "type": "integer", "minimum": least }),
        Kind::Integer(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::False => json!({ "const": false }),
        Kind::List(item) => json!({ "type": "array", "items": value(*item, definitions) }),
        Kind::Table(table) => shape(table, definitions),
        Kind::Named(table) => json!({
            "type": "object",
            "propertyNames": reference("name"),
            "additionalProperties": shape(table, definitions),
        }),
        Kind::Numbered(table) => json!({
            "type": "object",
            "propertyNames": { "pattern": "^(0|[1-9][0-9]*)$" },
            "additionalProperties": shape(table, definitions),
        }),
        Kind::Tables(table) => {
            let mut item = shape(table, definitions);
            if let Some(item) = item.as_object_mut() {
                demand(item, table);
            }
            json!({ "type": "array", "items": item })
        }
        Kind::Texts => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        Kind::Sizes => json!({
            "type": "object",
            "propertyNames": reference("name"),
            "additionalProperties": { "type": "string", "pattern": SIZE },
        }),
        Kind::Either(kinds) => {
            let alternatives: Vec<_> = kinds
                .iter()
                .map(|kind| {
                    let mut alternative = value(*kind, definitions);
                    if let (Some(schema), Kind::Table(table)) = (alternative.as_object_mut(), kind) {
                        demand(schema, table);
                    }
                    alternative
                })
                .collect();
            json!({ "anyOf": alternatives })
        }
    }
}

/// Adds to a table's shape what it must have.
fn demand(schema: &mut Map<String, Value>, table: &Table) {
    let mut requirements = requirements(table);
    let properties = requirements.remove_entry("properties");
    schema.extend(requirements);
    if let Some((key, properties)) = properties {
        schema.insert("allOf".to_owned(), json!([{ key: properties }]));
    }
}

/// What a table must have, and the tables in it.
fn requirements(table: &Table) -> Map<String, Value> {
    let mut schema = Map::new();
    let required = table.keys.iter().filter(|key| key.is_required && key.unless.is_empty()).map(|key| key.name);
    let required: Vec<_> = required.collect();
    for key in table.keys.iter().filter(|key| key.is_required && !key.unless.is_empty()) {
        let one = std::iter::once(&key.name).chain(key.unless).map(|name| json!({ "required": [name] }));
        schema.insert("anyOf".to_owned(), one.collect());
    }
    if !required.is_empty() {
        schema.insert("required".to_owned(), json!(required));
    }
    let mut inner = Map::new();
    for key in table.keys {
        let (within, of) = match key.kind {
            Kind::Table(table) => (None, requirements(table)),
            Kind::Named(table) | Kind::Numbered(table) => (Some("additionalProperties"), requirements(table)),
            _ => continue,
        };
        if !of.is_empty() {
            let of = Value::Object(of);
            inner.insert(key.name.to_owned(), within.map_or(of.clone(), |within| json!({ within: of })));
        }
    }
    if !inner.is_empty() {
        schema.insert("properties".to_owned(), Value::Object(inner));
    }
    schema
}

/// A sentence of the documentation without links.
fn plain(markdown: &str) -> String {
    let mut text = String::new();
    let mut rest = markdown;
    while let Some((before, link)) = rest.split_once('[') {
        let parts = link.split_once("](").and_then(|(words, link)| Some((words, link.split_once(')')?.1)));
        let parts = parts.filter(|(words, _)| !words.contains([']', '[']));
        let Some((words, after)) = parts else {
            text.push_str(before);
            text.push('[');
            rest = link;
            continue;
        };
        text.push_str(before);
        text.push_str(words);
        rest = after;
    }
    text.push_str(rest);
    text
}

fn capital(sentence: &str) -> String {
    let mut letters = sentence.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_become_their_words() {
        assert_eq!(plain("over [a port](devices.md#control) of `[0]`"), "over a port of `[0]`");
        assert_eq!(plain("[0] and [b](c)"), "[0] and b");
        assert_eq!(capital("a"), "A");
    }
}
