//! The tables of docs/abi.md are those of this crate's sources. With `BLESS=1` in the environment they are written anew.

use std::{fmt::Write, fs, path::Path};

/// Sources with items that have numbers, in the order in which they are read.
const SOURCES: [&str; 7] = ["syscall.rs", "object.rs", "rights.rs", "error.rs", "boot.rs", "vcpu.rs", "trace.rs"];
/// What stands before and after a table in the document.
const BEGIN: &str = "<!-- table: ";
const END: &str = "<!-- end of table -->";

/// Named numbers that belong together: an enum, a set of flags, a module of constants.
struct Table {
    name: String,
    rows: Vec<Row>,
}

struct Row {
    name: String,
    value: String,
    documentation: String,
}

impl Table {
    fn print(&self) -> String {
        let mut text = String::from("| number | name | meaning |\n| --- | --- | --- |\n");
        for row in &self.rows {
            let documentation = plain(&row.documentation);
            let _ = writeln!(text, "| {} | `{}` | {documentation} |", row.value, row.name);
        }
        text
    }
}

/// Documentation as a cell of a table: without links, and with bars that do not end the cell.
fn plain(documentation: &str) -> String {
    documentation.replace("[`", "`").replace("`]", "`").replace("`crate::", "`").replace('|', "\\|")
}

/// The name of the table that a line begins.
fn table_begins(line: &str) -> Option<&str> {
    let rest = line.strip_suffix(" {")?;
    let name = ["pub enum ", "pub struct ", "pub mod "].iter().find_map(|keyword| rest.strip_prefix(keyword))?;
    let name = name.split(':').next()?.trim();
    name.chars().all(|letter| letter.is_alphanumeric() || letter == '_').then_some(name)
}

/// Name and number of an item such as `Call = 0,` or `const VMX = 1 << 0;`.
fn item(line: &str) -> Option<(String, String)> {
    let line = line.strip_suffix([',', ';'])?;
    let line = line.strip_prefix("pub ").unwrap_or(line);
    let line = line.strip_prefix("const ").unwrap_or(line);
    let (name, value) = line.split_once(" = ")?;
    let name = name.split(':').next()?;
    value.starts_with(|letter: char| letter.is_ascii_digit()).then(|| (name.to_owned(), value.to_owned()))
}

/// All tables of a source: what begins in it and has at least one row.
fn tables(source: &str) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    let mut open = false;
    let mut documentation = Vec::new();
    for line in source.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("/// ") {
            documentation.push(text);
        } else if let Some(name) = table_begins(line) {
            tables.push(Table { name: name.to_owned(), rows: Vec::new() });
            open = true;
            documentation.clear();
        } else if line.starts_with('}') {
            open = false;
            documentation.clear();
        } else {
            if let (true, Some((name, value)), Some(table)) = (open, item(line), tables.last_mut()) {
                table.rows.push(Row { name, value, documentation: documentation.join(" ") });
            }
            documentation.clear();
        }
    }
    tables.retain(|table| !table.rows.is_empty());
    tables
}

/// The document with every table replaced by that of the sources; the names of the tables that it has.
fn renewed(document: &str, tables: &[Table]) -> (String, Vec<String>) {
    let mut text = String::new();
    let mut names = Vec::new();
    let mut inside = false;
    for line in document.lines() {
        if line == END {
            inside = false;
        }
        if inside {
            continue;
        }
        text.push_str(line);
        text.push('\n');
        let name = line.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(" -->"));
        if let Some(name) = name {
            let table = tables
                .iter()
                .find(|table| table.name == name)
                .unwrap_or_else(|| panic!("docs/abi.md has a table of `{name}`, the sources not"));
            text.push_str(&table.print());
            names.push(name.to_owned());
            inside = true;
        }
    }
    assert!(!inside, "docs/abi.md: the last table has no end");
    (text, names)
}

#[test]
fn tables_are_those_of_the_sources() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = own.join("../../docs/abi.md");
    let document = fs::read_to_string(&path).expect("docs/abi.md");
    let tables: Vec<Table> =
        SOURCES.iter().flat_map(|name| tables(&fs::read_to_string(own.join("src").join(name)).expect(name))).collect();
    let rows: usize = tables.iter().map(|table| table.rows.len()).sum();
    assert!(rows > 100, "only {rows} rows were found in the sources");
    let (text, names) = renewed(&document, &tables);
    for table in &tables {
        assert!(names.contains(&table.name), "docs/abi.md has no table of `{}`", table.name);
    }
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, text).expect("docs/abi.md can be written");
    } else {
        assert_eq!(document, text, "docs/abi.md differs from the sources; write it anew with BLESS=1");
    }
}
