//! The keys of the language, described once: what the reader knows of them, the published schema and the tables of the
//! documentation come from here.

mod parts;
mod reference;
mod schema;
mod subjects;
mod tables;

pub(crate) use reference::reference;
pub(crate) use schema::schema;
pub(crate) use tables::ROOT;

/// The kinds of values.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// Any text.
    Text,
    /// A text of a form: what it is called, and the regular expression of all of it.
    Form(&'static str, &'static str),
    /// The name of a partition, a guest or a device.
    Name,
    /// The name of a built program.
    Program,
    /// The name of a feature that can be withheld from a guest.
    Feature,
    /// One of these texts.
    Word(&'static [&'static str]),
    /// An amount of memory or disk.
    Size,
    /// A time.
    Time,
    /// A whole number, from the first to the second.
    Integer(u64, u64),
    Boolean,
    /// `false`, beside something else.
    False,
    List(&'static Kind),
    /// One table, as in `[machine]` or `between = { ... }`.
    Table(&'static Table),
    /// Tables with names, as in `[partition.NAME]`.
    Named(&'static Table),
    /// Tables with numbers, as in `[cpu.N]`.
    Numbered(&'static Table),
    /// A list of tables, as in `[[guest.NAME.disk]]`.
    Tables(&'static Table),
    /// A table with any keys, whose values are texts.
    Texts,
    /// A table with names, whose values are sizes.
    Sizes,
    /// One of these.
    Either(&'static [Kind]),
}

/// A table of the language.
#[derive(Debug)]
pub(crate) struct Table {
    /// How the documentation and the schema call it, such as `machine.device`; empty for one that is described with the table
    /// that it is part of.
    pub(crate) name: &'static str,
    pub(crate) documentation: &'static str,
    pub(crate) keys: &'static [Key],
    /// It has exactly one of its keys.
    pub(crate) is_choice: bool,
    /// Its keys say one thing together: in a file that includes another it takes the place of the other's.
    pub(crate) is_whole: bool,
}

/// A key of a table.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) is_required: bool,
    /// It is not required where one of these is there.
    pub(crate) unless: &'static [&'static str],
    /// What holds if it is not there, in Markdown.
    pub(crate) default: &'static str,
    /// In Markdown.
    pub(crate) documentation: &'static str,
    /// A value of it; empty where its kind has one.
    example: &'static str,
}

/// Largest number that a manifest can write: TOML's are signed.
const MAX: u64 = i64::MAX as u64;

impl Table {
    /// A table with a place of its own in the documentation.
    const fn new(name: &'static str, documentation: &'static str, keys: &'static [Key]) -> Self {
        Self { name, documentation, keys, is_choice: false, is_whole: false }
    }

    /// A table that is part of another one's documentation.
    const fn part(keys: &'static [Key]) -> Self {
        Self::new("", "", keys)
    }

    /// The same, whose keys say one thing together.
    const fn whole(keys: &'static [Key]) -> Self {
        Self { is_whole: true, ..Self::part(keys) }
    }

    /// The same, of which a manifest uses one key.
    const fn choice(keys: &'static [Key]) -> Self {
        Self { is_choice: true, ..Self::whole(keys) }
    }

    pub(crate) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

impl Key {
    const fn new(name: &'static str, kind: Kind, default: &'static str, documentation: &'static str) -> Self {
        Self { name, kind, is_required: false, unless: &[], default, documentation, example: "" }
    }

    const fn required(name: &'static str, kind: Kind, documentation: &'static str) -> Self {
        Self { is_required: true, ..Self::new(name, kind, "", documentation) }
    }

    const fn unless(self, unless: &'static [&'static str]) -> Self {
        Self { unless, ..self }
    }

    const fn example(self, example: &'static str) -> Self {
        Self { example, ..self }
    }

    /// What holds if it is not there, in words; empty if there is nothing to say.
    fn if_missing(&self) -> String {
        let unless: Vec<_> = self.unless.iter().map(|key| format!("`{key}`")).collect();
        match (self.is_required, unless.is_empty()) {
            (true, true) => "required".to_owned(),
            (true, false) => format!("required, unless there is {}", unless.join(" or ")),
            (false, _) => self.default.to_owned(),
        }
    }

    /// How a value of it is written, for help texts.
    pub(crate) fn written(&self) -> String {
        if self.example.is_empty() { self.kind.written() } else { self.example.to_owned() }
    }
}

impl Kind {
    fn written(self) -> String {
        match self {
            Self::Text | Self::Form(..) => r#""...""#.to_owned(),
            Self::Name => r#""NAME""#.to_owned(),
            Self::Program => r#""hello""#.to_owned(),
            Self::Feature => r#""avx512""#.to_owned(),
            Self::Word(words) => format!("{:?}", words.first().copied().unwrap_or_default()),
            Self::Size => r#""64 MiB""#.to_owned(),
            Self::Time => r#""10 ms""#.to_owned(),
            Self::Integer(least, _) => least.max(1).to_string(),
            Self::Boolean => "true".to_owned(),
            Self::False => "false".to_owned(),
            Self::List(item) => format!("[{}]", item.written()),
            Self::Table(table) | Self::Named(table) | Self::Numbered(table) => inline(table),
            Self::Tables(table) => format!("[{}]", inline(table)),
            Self::Texts => r#"{ key = "..." }"#.to_owned(),
            Self::Sizes => r#"{ small = "64 MiB" }"#.to_owned(),
            Self::Either(kinds) => kinds.first().map_or_else(String::new, |kind| kind.written()),
        }
    }

    /// The table that it is, or that each of its values is.
    pub(crate) fn table(self) -> Option<&'static Table> {
        match self {
            Self::Table(table) | Self::Named(table) | Self::Numbered(table) | Self::Tables(table) => Some(table),
            Self::Either(kinds) => kinds.iter().find_map(|kind| kind.table()),
            _ => None,
        }
    }

    /// What the key of such a table has as its value.
    pub(crate) fn of_key(self, name: &str) -> Option<Self> {
        match self {
            Self::Named(table) | Self::Numbered(table) => Some(Self::Table(table)),
            _ => self.table()?.key(name).map(|key| key.kind),
        }
    }

    /// Whether it is one table, whose keys say one thing together.
    pub(crate) fn is_whole(self) -> bool {
        !matches!(self, Self::Named(_) | Self::Numbered(_)) && self.table().is_some_and(|table| table.is_whole)
    }
}

/// A table with the keys that it must have, on one line.
fn inline(table: &Table) -> String {
    let keys = table.keys.iter().filter(|key| key.is_required);
    let keys: Vec<_> = keys.map(|key| format!("{} = {}", key.name, key.written())).collect();
    if keys.is_empty() { "{ ... }".to_owned() } else { format!("{{ {} }}", keys.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn each(table: &'static Table, visit: &mut impl FnMut(&'static Table)) {
        visit(table);
        table.keys.iter().filter_map(|key| key.kind.table()).for_each(|inner| each(inner, visit));
    }

    #[test]
    fn descriptions_are_whole() {
        each(&ROOT, &mut |table| {
            for (number, key) in table.keys.iter().enumerate() {
                assert!(!key.documentation.is_empty(), "{}.{}", table.name, key.name);
                assert!(table.keys[..number].iter().all(|other| other.name != key.name), "{}.{}", table.name, key.name);
                let value = format!("{} = {}", key.name, key.written());
                let is_toml = toml::de::DeTable::parse(&value).is_ok();
                assert!(is_toml || value.contains("{ ... }"), "{value} is not TOML");
            }
        });
    }
}
