//! `include`: the files that a manifest consists of, and one table made of all of theirs.

use super::table::TableReader;
use crate::{
    diagnostic::{Reporter, SYNTAX, Span},
    keys::{Kind, ROOT},
    model::Located,
};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// How deep files include others, the manifest itself counted.
const MAX_DEPTH: usize = 8;

/// One file of a manifest.
pub(super) struct File {
    text: Arc<str>,
    /// Where it begins in the reporter's sources.
    base: usize,
}

/// All files of a manifest, those that are included before those that include them. A file that several include is there once.
pub(super) fn files(reporter: &Reporter, path: &Path, text: &str) -> Vec<File> {
    let mut loader = Loader { reporter, files: Vec::new(), done: Vec::new(), open: vec![identity(path)] };
    loader.load(path, Path::new(""), File { text: Arc::from(text), base: 0 });
    loader.files
}

/// What makes a file the same under all its names.
fn identity(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

struct Loader<'a> {
    reporter: &'a Reporter,
    files: Vec<File>,
    done: Vec<PathBuf>,
    /// The files that are being loaded, each included by the one before it.
    open: Vec<PathBuf>,
}

impl Loader<'_> {
    /// `directory`: that of the file, as seen from the manifest's.
    fn load(&mut self, path: &Path, directory: &Path, file: File) {
        let (document, _) = DeTable::parse_recoverable(&file.text);
        let table = moved(document.get_ref(), file.base);
        let reader = TableReader::new(self.reporter, &table, 0..0, "the manifest".to_owned(), &ROOT);
        for include in reader.strings("include") {
            self.include(path, directory, &include);
        }
        self.files.push(file);
        self.done.extend(self.open.pop());
    }

    fn include(&mut self, from: &Path, directory: &Path, include: &Located<String>) {
        let path = from.parent().unwrap_or(Path::new("")).join(&include.value);
        let name = &include.value;
        let identity = identity(&path);
        if self.open.contains(&identity) {
            self.reporter
                .error("include::cycle", &include.span, format!("`{name}` is included by what it includes"))
                .help("let one of the two files include the other");
            return;
        }
        if self.done.contains(&identity) {
            return;
        }
        if self.open.len() >= MAX_DEPTH {
            self.reporter
                .error(
                    "include::too_deep",
                    &include.span,
                    format!("`{name}` is included by the {MAX_DEPTH}th file in a row"),
                )
                .help(format!("files include others at most {MAX_DEPTH} deep, the manifest itself counted"));
            return;
        }
        match fs::read_to_string(&path) {
            Ok(text) => {
                let text: Arc<str> = Arc::from(text);
                let directory = directory.join(Path::new(name).parent().unwrap_or(Path::new("")));
                let base = self.reporter.add_source(&path, Arc::clone(&text), &directory);
                self.open.push(identity);
                self.load(&path, &directory, File { text, base });
            }
            Err(error) => drop(
                self.reporter
                    .error("include::unreadable", &include.span, format!("cannot read `{name}`: {error}"))
                    .help("paths are relative to the file that includes"),
            ),
        }
    }
}

/// One table of all files: of two that say the same key, the later one is right. Also whether all of it is TOML.
pub(super) fn merged<'f>(files: &'f [File], reporter: &Reporter) -> (DeTable<'f>, bool) {
    let mut table = DeTable::new();
    let mut is_toml = true;
    for file in files {
        let (document, errors) = DeTable::parse_recoverable(&file.text);
        for error in errors {
            is_toml &= report(&error, file, reporter);
        }
        merge(&mut table, moved(document.get_ref(), file.base), Some(Kind::Table(&ROOT)));
    }
    (table, is_toml)
}

/// Reports what is wrong with a file as TOML; returns whether it can be read all the same.
fn report(error: &toml::de::Error, file: &File, reporter: &Reporter) -> bool {
    let span = error.span().unwrap_or(0..0);
    let place = moved_span(&span, file.base);
    let is_duplicate = error.message().contains("duplicate");
    if is_duplicate {
        let key = file.text.get(span).unwrap_or_default();
        reporter
            .error("toml::duplicate_key", &place, format!("`{key}` stands twice in one table"))
            .help("give the second one another name, or remove it");
    } else {
        reporter
            .error(SYNTAX, &place, error.message())
            .help("manifests are TOML: `key = value` lines under `[table]` headings");
    }
    is_duplicate
}

/// Tables are merged key by key; anything else is replaced, and so are tables that say one thing.
fn merge<'i>(table: &mut DeTable<'i>, with: DeTable<'i>, kind: Option<Kind>) {
    for (key, value) in with {
        let kind = kind.and_then(|kind| kind.of_key(key.get_ref()));
        let is_whole = kind.is_some_and(Kind::is_whole);
        let value = match (table.remove::<str>(key.get_ref()).map(|old| old.into_inner()), value) {
            (Some(DeValue::Table(mut old)), new) if new.get_ref().is_table() && !is_whole => {
                let span = new.span();
                if let DeValue::Table(new) = new.into_inner() {
                    merge(&mut old, new, kind);
                }
                Spanned::new(span, DeValue::Table(old))
            }
            (_, new) => new,
        };
        table.insert(key, value);
    }
}

fn moved_span(span: &Span, base: usize) -> Span {
    span.start + base..span.end + base
}

/// A table whose places are those of the reporter's sources.
fn moved<'i>(table: &DeTable<'i>, base: usize) -> DeTable<'i> {
    let entries = table.iter().map(|(key, value)| {
        (Spanned::new(moved_span(&key.span(), base), key.get_ref().clone()), moved_value(value, base))
    });
    entries.collect()
}

fn moved_value<'i>(value: &Spanned<DeValue<'i>>, base: usize) -> Spanned<DeValue<'i>> {
    let moved = match value.get_ref() {
        DeValue::Table(inner) => DeValue::Table(moved(inner, base)),
        DeValue::Array(items) => DeValue::Array(items.iter().map(|item| moved_value(item, base)).collect()),
        other => other.clone(),
    };
    Spanned::new(moved_span(&value.span(), base), moved)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged_texts(texts: &[&str]) -> String {
        let tables = texts.iter().map(|text| DeTable::parse(text).unwrap());
        let mut all = DeTable::new();
        tables.for_each(|table| merge(&mut all, table.into_inner(), Some(Kind::Table(&ROOT))));
        let mut paths = Vec::new();
        list(&all, "", &mut paths);
        paths.join(" ")
    }

    fn list(table: &DeTable<'_>, prefix: &str, paths: &mut Vec<String>) {
        for (key, value) in table.iter() {
            match value.get_ref() {
                DeValue::Table(inner) => list(inner, &format!("{prefix}{}.", key.get_ref()), paths),
                DeValue::Integer(number) => paths.push(format!("{prefix}{}={}", key.get_ref(), number.as_str())),
                other => paths.push(format!("{prefix}{}:{}", key.get_ref(), other.type_str())),
            }
        }
        paths.sort();
    }

    #[test]
    fn later_files_win_key_by_key() {
        assert_eq!(merged_texts(&["a = 1\nb = 2", "b = 3\nc = 4"]), "a=1 b=3 c=4");
        assert_eq!(merged_texts(&["[t.x]\na = 1\nb = 2", "[t.x]\nb = 3\n[t.y]\na = 5"]), "t.x.a=1 t.x.b=3 t.y.a=5");
        assert_eq!(merged_texts(&["t = { a = 1 }", "t = 3"]), "t=3");
        assert_eq!(merged_texts(&["t = 3", "t = { a = 1 }"]), "t.a=1");
        assert_eq!(
            merged_texts(&["[system]\nend = { after = 1 }", "[system]\nend = { partition = 2 }"]),
            "system.end.partition=2"
        );
        let pci = ["vendor = 1, device = 2", "address = 3"];
        let pci = pci.map(|pci| format!("[machine.device.d]\nvectors = 4\npci = {{ {pci} }}"));
        assert_eq!(
            merged_texts(&pci.each_ref().map(String::as_str)),
            "machine.device.d.pci.address=3 machine.device.d.vectors=4"
        );
        assert_eq!(merged_texts(&["[[t]]\na = 1\n[[t]]\na = 2", "[[t]]\na = 3"]), "t:array");
    }
}
