//! Reading one TOML table by its keys.

use super::units;
use crate::{
    diagnostic::{Report, Reporter, Span},
    keys::{Key, Kind, Table},
    model::Located,
};
use std::{cell::RefCell, collections::BTreeMap, rc::Rc};
use toml::de::{DeTable, DeValue};

/// A table that is being read. [`TableReader::finish`] reports the keys that its description does not have.
pub(super) struct TableReader<'a, 'i> {
    reporter: &'a Reporter,
    table: &'a DeTable<'i>,
    /// Where errors about the whole table point to: its name.
    pub(super) span: Span,
    /// How messages call it, such as `[guest.linux]`.
    what: String,
    /// The last part of its heading.
    pub(super) name: String,
    description: &'static Table,
    /// The sizes that the manifest names.
    sizes: Rc<BTreeMap<String, u64>>,
    /// Keys that were asked for: all that are described.
    asked: RefCell<Vec<&'static str>>,
}

/// How sizes are written.
const SIZE_HELP: &str = r#"write a whole number and B, KiB, MiB or GiB, such as "128 MiB""#;

/// The description of a table whose keys are free to choose.
static FREE: Table = Table { name: "", documentation: "", keys: &[], is_choice: false, is_whole: false };

/// A value of the table.
pub(super) struct Field<'a, 'i> {
    value: &'a DeValue<'i>,
    pub(super) span: Span,
}

impl<'a, 'i> Field<'a, 'i> {
    pub(super) fn as_str(&self) -> Option<&'a str> {
        self.value.as_str()
    }

    pub(super) fn as_bool(&self) -> Option<bool> {
        self.value.as_bool()
    }

    pub(super) fn as_table(&self) -> Option<&'a DeTable<'i>> {
        self.value.as_table()
    }

    pub(super) fn is_empty_list(&self) -> bool {
        self.value.as_array().is_some_and(|list| list.is_empty())
    }

    fn as_integer(&self) -> Option<i128> {
        let integer = self.value.as_integer()?;
        i128::from_str_radix(&integer.as_str().replace('_', ""), integer.radix()).ok()
    }

    fn items(&self) -> Option<Vec<Field<'a, 'i>>> {
        let items = self.value.as_array()?.iter();
        Some(items.map(|item| Field { value: item.get_ref(), span: item.span() }).collect())
    }
}

impl<'a, 'i> TableReader<'a, 'i> {
    pub(super) fn new(
        reporter: &'a Reporter,
        table: &'a DeTable<'i>,
        span: Span,
        what: String,
        description: &'static Table,
    ) -> Self {
        Self {
            reporter,
            table,
            span,
            what,
            name: String::new(),
            description,
            sizes: Rc::default(),
            asked: RefCell::default(),
        }
    }

    /// A table in this one.
    fn inner(&self, table: &'a DeTable<'i>, span: Span, what: String, key: &str) -> Self {
        let sizes = Rc::clone(&self.sizes);
        Self { sizes, ..Self::new(self.reporter, table, span, what, self.described(key)) }
    }

    /// The same table, whose sizes may have the names that its table `sizes` gives.
    pub(super) fn with_sizes(mut self) -> Self {
        let named = self.table("sizes").map(|table| table.free_sizes());
        self.sizes = Rc::new(named.unwrap_or_default());
        self
    }

    /// The description of the tables that a key has.
    fn described(&self, key: &str) -> &'static Table {
        let kind = self.description.key(key).map(|key| key.kind);
        let table = kind.and_then(Kind::table);
        let known = table.is_some() || matches!(kind, Some(Kind::Texts | Kind::Sizes));
        debug_assert!(known, "src/keys/ does not describe `{key}` of {} as a table", self.what);
        table.unwrap_or(&FREE)
    }

    /// How the value of a key is written.
    fn example(&self, key: &str) -> String {
        self.description.key(key).map_or_else(String::new, Key::written)
    }

    /// Starts an error about this table.
    pub(super) fn report(&self, span: &Span, check: &'static str, message: impl Into<String>) -> Report<'a> {
        self.reporter.error(check, span, message)
    }

    /// A value that nobody wrote, placed at the table's name.
    pub(super) fn default<T>(&self, value: T) -> Located<T> {
        Located::new(value, self.span.clone())
    }

    /// The raw value of a key.
    pub(super) fn field(&self, key: &'static str) -> Option<Field<'a, 'i>> {
        debug_assert!(self.description.key(key).is_some(), "src/keys/ does not describe `{key}` of {}", self.what);
        self.asked.borrow_mut().push(key);
        let (_, value) = self.table.iter().find(|(name, _)| name.get_ref() == key)?;
        Some(Field { value: value.get_ref(), span: value.span() })
    }

    /// Nothing is wrong with a key that has been read before.
    pub(super) fn was_read(&self, key: &'static str) {
        self.asked.borrow_mut().push(key);
    }

    /// Reports that a value has another type than it should.
    pub(super) fn wrong_type(&self, field: &Field<'_, '_>, wanted: &str, help: &str) {
        let found = field.value.type_str();
        self.report(&field.span, "read::wrong_type", format!("expected {wanted}, found {} {found}", article(found)))
            .label(format!("this is {} {found}", article(found)))
            .help(help);
    }

    /// The value that `read` reads, which must be there.
    pub(super) fn require<T>(&self, key: &'static str, read: impl Fn(&Self, &'static str) -> Option<T>) -> Option<T> {
        if self.field(key).is_none() {
            self.report(&self.span, "read::missing_key", format!("`{key}` is missing in {}", self.what))
                .label("in this table")
                .help(format!("add `{key} = {}`", self.example(key)));
            return None;
        }
        read(self, key)
    }

    fn read<T>(
        &self,
        key: &'static str,
        wanted: &str,
        convert: impl Fn(&Field<'a, 'i>) -> Option<T>,
    ) -> Option<Located<T>> {
        let field = self.field(key)?;
        let value = convert(&field);
        if value.is_none() {
            self.wrong_type(&field, wanted, &format!("write `{key} = {}`", self.example(key)));
        }
        value.map(|value| Located::new(value, field.span))
    }

    /// A text.
    pub(super) fn string(&self, key: &'static str) -> Option<Located<String>> {
        self.read(key, "a string", |field| field.as_str().map(str::to_owned))
    }

    /// `true` or `false`; `default` if it is not there.
    pub(super) fn boolean(&self, key: &'static str, default: bool) -> bool {
        self.read(key, "true or false", Field::as_bool).map_or(default, |read| read.value)
    }

    /// A whole number, not negative.
    pub(super) fn integer(&self, key: &'static str) -> Option<Located<u64>> {
        let read = self.read(key, "a whole number", Field::as_integer)?;
        self.not_negative(read)
    }

    fn not_negative(&self, read: Located<i128>) -> Option<Located<u64>> {
        if let Ok(value) = u64::try_from(read.value) {
            return Some(Located::new(value, read.span));
        }
        self.report(&read.span, "read::value", format!("{} is out of range", read.value))
            .help("write a whole number that is not negative");
        None
    }

    fn quantity(
        &self,
        key: &'static str,
        wanted: &str,
        help: &str,
        convert: impl Fn(&str) -> Option<u64>,
    ) -> Option<Located<u64>> {
        let field = self.field(key)?;
        let Some(text) = field.as_str() else {
            self.wrong_type(&field, wanted, help);
            return None;
        };
        let value = convert(text);
        if value.is_none() {
            self.report(&field.span, "read::value", format!("`{text}` is not {wanted}")).help(help);
        }
        value.map(|value| Located::new(value, field.span))
    }

    /// An amount of memory or disk, in bytes.
    pub(super) fn size(&self, key: &'static str) -> Option<Located<u64>> {
        let name = self.field(key)?.as_str().unwrap_or_default();
        let is_name = name.starts_with(|first: char| first.is_ascii_lowercase());
        if is_name && !self.sizes.is_empty() && !self.sizes.contains_key(name) {
            let known: Vec<&str> = self.sizes.keys().map(String::as_str).collect();
            let help = match crate::checks::nearest(name, &known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("[sizes] has {}", known.join(", ")),
            };
            let span = self.field(key)?.span;
            self.report(&span, "read::unknown_size", format!("there is no size `{name}`")).help(help);
            return None;
        }
        self.quantity(key, "a size", SIZE_HELP, |text| units::size(text).or_else(|| self.sizes.get(text).copied()))
    }

    /// All keys and sizes of a table whose keys are names.
    fn free_sizes(&self) -> BTreeMap<String, u64> {
        let mut read = BTreeMap::new();
        for (key, value) in self.table.iter() {
            let field = Field { value: value.get_ref(), span: value.span() };
            let name = key.get_ref();
            if !crate::checks::is_name(name) {
                self.report(&key.span(), "names::invalid", format!("`{name}` is not a name"))
                    .help("sizes have names of letters a to z, digits and hyphens, that begin with a letter");
            }
            match field.as_str().map(|text| (text, units::size(text))) {
                Some((_, Some(bytes))) => drop(read.insert(name.to_string(), bytes)),
                Some((text, None)) => {
                    self.report(&field.span, "read::value", format!("`{text}` is not a size")).help(SIZE_HELP);
                }
                None => self.wrong_type(&field, "a size", SIZE_HELP),
            }
        }
        read
    }

    /// A list of CPUs, or a text such as `0-3`; empty if it is not there.
    pub(super) fn cpus(&self, key: &'static str) -> Vec<Located<u64>> {
        let Some(field) = self.field(key) else { return Vec::new() };
        let Some(text) = field.as_str() else { return self.integers(key) };
        let Some(cpus) = units::cpus(text) else {
            self.report(&field.span, "read::value", format!("`{text}` is not a set of CPUs"))
                .help(r#"write a list, such as [0, 1], or numbers and ranges, such as "0-3,6""#);
            return Vec::new();
        };
        cpus.into_iter().map(|cpu| Located::new(cpu, field.span.clone())).collect()
    }

    /// A time, in microseconds.
    pub(super) fn time(&self, key: &'static str) -> Option<Located<u64>> {
        let help = r#"write a number and us, ms or s, such as "2 ms""#;
        self.quantity(key, "a time", help, units::microseconds)
    }

    /// A list of texts; empty if it is not there.
    pub(super) fn strings(&self, key: &'static str) -> Vec<Located<String>> {
        self.list(key, "a string", |field| field.as_str().map(str::to_owned))
    }

    /// A list of whole numbers that are not negative; empty if it is not there.
    pub(super) fn integers(&self, key: &'static str) -> Vec<Located<u64>> {
        let read = self.list(key, "a whole number", Field::as_integer);
        read.into_iter().filter_map(|item| self.not_negative(item)).collect()
    }

    fn list<T>(
        &self,
        key: &'static str,
        wanted: &str,
        convert: impl Fn(&Field<'a, 'i>) -> Option<T>,
    ) -> Vec<Located<T>> {
        let Some(field) = self.field(key) else {
            return Vec::new();
        };
        let help = format!("write `{key} = {}`", self.example(key));
        let Some(items) = field.items() else {
            self.wrong_type(&field, "a list", &help);
            return Vec::new();
        };
        let mut read = Vec::new();
        for item in items {
            match convert(&item) {
                Some(value) => read.push(Located::new(value, item.span)),
                None => self.wrong_type(&item, wanted, &help),
            }
        }
        read
    }

    /// A table inside this one, such as `between = { ... }`.
    pub(super) fn table(&self, key: &'static str) -> Option<Self> {
        let field = self.field(key)?;
        let Some(table) = field.as_table() else {
            self.wrong_type(&field, "a table", &format!("write `{key} = {}`", self.example(key)));
            return None;
        };
        let what = if self.name.is_empty() { format!("[{key}]") } else { format!("`{key}` of {}", self.what) };
        Some(self.inner(table, field.span, what, key))
    }

    /// The tables `[kind.NAME]`, in the order of the file.
    pub(super) fn named_tables(&self, kind: &'static str) -> Vec<Self> {
        let Some(field) = self.field(kind) else {
            return Vec::new();
        };
        let Some(parent) = field.as_table() else {
            self.wrong_type(&field, "tables with names", &format!("write `[{kind}.NAME]`"));
            return Vec::new();
        };
        let mut tables = Vec::new();
        for (key, value) in parent.iter() {
            let field = Field { value: value.get_ref(), span: value.span() };
            let Some(table) = field.as_table() else {
                self.wrong_type(&field, "a table", &format!("write `[{kind}.{}]`", key.get_ref()));
                continue;
            };
            let what = format!("[{kind}.{}]", key.get_ref());
            let mut reader = self.inner(table, key.span(), what, kind);
            reader.name = key.get_ref().to_string();
            tables.push(reader);
        }
        tables.sort_by_key(|table| table.span.start);
        tables
    }

    /// The tables of `[[... .key]]`, in the order of the file.
    pub(super) fn tables(&self, key: &'static str) -> Vec<Self> {
        let Some(field) = self.field(key) else {
            return Vec::new();
        };
        let Some(items) = field.items() else {
            self.wrong_type(&field, "a list of tables", &format!("write double brackets: `[[... .{key}]]`"));
            return Vec::new();
        };
        let mut tables = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            match item.as_table() {
                Some(table) => {
                    let what = format!("`{key}` {index} of {}", self.what);
                    let mut reader = self.inner(table, item.span, what, key);
                    reader.name.push_str(key);
                    tables.push(reader);
                }
                None => self.wrong_type(&item, "a table", "each item of the list is a table with named values"),
            }
        }
        tables
    }

    /// All keys and texts of a table whose keys are free to choose.
    pub(super) fn free_strings(&self) -> Vec<(Located<String>, String)> {
        let mut read = Vec::new();
        for (key, value) in self.table.iter() {
            let field = Field { value: value.get_ref(), span: value.span() };
            match field.as_str() {
                Some(text) => read.push((Located::new(key.get_ref().to_string(), key.span()), text.to_owned())),
                None => self.wrong_type(&field, "a string", r#"settings are texts: write "3", not 3"#),
            }
        }
        read.sort_by_key(|(key, _)| key.span.start);
        read
    }

    /// Reports every key that is not described.
    pub(super) fn finish(&self) {
        let known: Vec<&str> = self.description.keys.iter().map(|key| key.name).collect();
        let unread = known.iter().find(|key| !self.asked.borrow().contains(key));
        debug_assert!(unread.is_none(), "{unread:?} of {} is described in src/keys/, and not read", self.what);
        for (key, _) in self.table.iter() {
            let name: &str = key.get_ref();
            if known.contains(&name) {
                continue;
            }
            let help = match crate::checks::nearest(name, &known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => {
                    let mut names = known.clone();
                    names.sort_unstable();
                    format!("known keys are {}", names.join(", "))
                }
            };
            self.report(&key.span(), "read::unknown_key", format!("{} has no key `{name}`", self.what))
                .label("unknown key")
                .help(help);
        }
    }
}

fn article(noun: &str) -> &'static str {
    if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}
