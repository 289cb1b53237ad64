//! Places in code: the kernel and init print `PROGRAM@0xADDRESS`, and here such a text is followed by the function and the line of
//! the source, found in the debug information that the build has kept.

use std::{borrow::Cow, collections::BTreeMap, path::Path};

use addr2line::Loader;

use crate::programs;

/// Between program and address.
const MARK: &[u8] = b"@0x";
/// More of a line is not remembered: a place lies further in front.
const LONGEST_LINE: usize = 400;
/// Who prints places through the console service, which puts the name before each line.
const AUTHOR: &[u8] = b"init";

/// Completes places in serial output as it comes.
#[derive(Default)]
pub struct Places {
    /// What has come of the current line.
    line: Vec<u8>,
    /// Debug information by program; `None` where there is none.
    programs: BTreeMap<String, Option<Loader>>,
}

impl Places {
    /// The same bytes, with what is known of each place behind it.
    pub fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut shown = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            if !byte.is_ascii_hexdigit() {
                shown.extend(self.end_of_word().bytes());
            }
            shown.push(byte);
            if byte == b'\n' {
                self.line.clear();
            } else if self.line.len() < LONGEST_LINE {
                self.line.push(byte);
            }
        }
        shown
    }

    /// What is left when nothing comes any more.
    pub fn rest(&mut self) -> String {
        let rest = self.end_of_word();
        self.line.clear();
        rest
    }

    /// What belongs behind a place, if the line so far ends with one. What partitions and guests print stays as it is.
    fn end_of_word(&mut self) -> String {
        let found = place(&self.line).filter(|_| self.line.len() < LONGEST_LINE && is_trusted(&self.line));
        let Some((program, address)) = found else {
            return String::new();
        };
        let load = || Loader::new(programs::linked(program)?).ok();
        let loader = self.programs.entry(program.to_owned()).or_insert_with(load);
        loader.as_ref().and_then(|loader| describe(loader, address)).map_or_else(String::new, |text| format!(" {text}"))
    }
}

/// The place with which a line ends.
fn place(line: &[u8]) -> Option<(&str, u64)> {
    let digits = line.iter().rev().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (before, digits) = line.split_at(line.len() - digits);
    let before = before.strip_suffix(MARK)?;
    let name = before.iter().rev().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'-').count();
    let name = std::str::from_utf8(&before[before.len() - name..]).ok()?;
    Some((name, u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?))
}

/// Whether a line is the kernel's or init's.
fn is_trusted(line: &[u8]) -> bool {
    let name = line.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'-').count();
    let (name, rest) = line.split_at(name);
    !rest.starts_with(b"|") || name == AUTHOR
}

/// The function at an address and its line, with the functions into which it was inlined.
fn describe(loader: &Loader, address: u64) -> Option<String> {
    // The search counts up to the address behind it.
    address.checked_add(1)?;
    // Of the function that was not inlined, the symbol says more than the line tables.
    let symbol = loader.find_symbol(address).map(|name| addr2line::demangle_auto(Cow::Borrowed(name), None));
    let mut frames = loader.find_frames(address).ok()?;
    let mut found = Vec::new();
    while let Ok(Some(frame)) = frames.next() {
        if let Some((file, line)) = frame.location.and_then(|location| Some((location.file?, location.line?))) {
            let name = frame.function.and_then(|function| Some(bare(&function.demangle().ok()?)));
            found.push((name, format!("({}:{line})", shortened(file))));
        }
    }
    let Some(outermost) = found.last_mut() else {
        return symbol.map(|name| bare(&name));
    };
    outermost.0 = symbol.map(|name| bare(&name)).or(outermost.0.take());
    let texts = found.iter().map(|(name, place)| format!("{} {place}", name.as_deref().unwrap_or("(no name)")));
    Some(texts.collect::<Vec<_>>().join(" in "))
}

/// A function's name without its generic arguments, which may fill pages.
fn bare(name: &str) -> String {
    let mut depth = 0u32;
    let mut last = ' ';
    let mut bare = String::new();
    for character in name.chars() {
        match character {
            '<' => depth += 1,
            // In the type of a function, `->` closes nothing.
            '>' if last != '-' => depth = depth.saturating_sub(1),
            _ if depth == 0 => bare.push(character),
            _ => {}
        }
        last = character;
    }
    bare.trim_matches(':').to_owned()
}

/// A source's path: relative to the project, or from the name of its crate on.
fn shortened(file: &str) -> String {
    let path = Path::new(file);
    if let Ok(path) = path.strip_prefix(env!("CARGO_MANIFEST_DIR")) {
        return path.display().to_string();
    }
    let parts: Vec<Cow<'_, str>> = path.iter().map(|part| part.to_string_lossy()).collect();
    // The standard library's, or an index of the registry's, under which each crate has a directory.
    let first = parts.iter().position(|part| part == "library").map(|place| place + 1);
    let registry = || parts.iter().position(|part| part == "registry").map(|place| place + 3);
    let known = first.or_else(registry).and_then(|first| parts.get(first..)).filter(|parts| !parts.is_empty());
    known.map_or_else(|| file.to_owned(), |parts| parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_at_ends_of_words() {
        assert_eq!(place(b"  rip kernel@0xffffffff80001000"), Some(("kernel", 0xffff_ffff_8000_1000)));
        assert_eq!(place(b"page fault at virtio-blk@0x40"), Some(("virtio-blk", 0x40)));
        for other in ["kernel@0x", "kernel@12", "kernel 0x12", "kernel@0x11112222333344445", "", "x@0xg"] {
            assert_eq!(place(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn sources_are_named_by_project_or_crate() {
        assert_eq!(shortened(concat!(env!("CARGO_MANIFEST_DIR"), "/kernel/src/main.rs")), "kernel/src/main.rs");
        assert_eq!(shortened("/rustc/0123/library/core/src/cell.rs"), "core/src/cell.rs");
        assert_eq!(
            shortened("/home/x/.cargo/registry/src/index.crates.io-1/spin-0.9.8/src/once.rs"),
            "spin-0.9.8/src/once.rs"
        );
        assert_eq!(shortened("entry.s"), "entry.s");
    }

    #[test]
    fn names_are_short() {
        assert_eq!(bare("find<fn(&A) -> B<C>, D>"), "find");
        assert_eq!(bare("<a::B<C> as d::E>::f"), "f");
        assert_eq!(bare("a::b::{closure#0}"), "a::b::{closure#0}");
    }

    #[test]
    fn text_comes_through_and_trusted_places_are_completed() {
        let start = start_of("hello", "die_with");
        let text =
            format!("guest| hello@{start:#x}\r\ninit| x\r\ninit| at hello@{start:#x}, hello@0x1 none@0x12\r\nend");
        for size in 1..30 {
            let mut places = Places::default();
            let mut shown: Vec<u8> = text.as_bytes().chunks(size).flat_map(|part| places.pass(part)).collect();
            shown.extend(places.rest().bytes());
            let shown = String::from_utf8(shown).unwrap();
            let (before, rest) = shown.split_once(&format!("init| at hello@{start:#x} ")).expect(&shown);
            assert_eq!(before, format!("guest| hello@{start:#x}\r\ninit| x\r\n"));
            let (place, after) = rest.split_once("), hello@").expect(&shown);
            assert!(
                place.starts_with("bulkhead_runtime::entry::die_with (partitions/runtime/src/entry.rs:"),
                "{place}"
            );
            assert_eq!(after, "0x1 none@0x12\r\nend");
        }
    }

    #[test]
    fn the_last_address_has_no_place() {
        let text = "panic at kernel@0xffffffffffffffff\ninit| hello@0xffffffffffffffff ";
        assert_eq!(Places::default().pass(text.as_bytes()), text.as_bytes());
    }

    /// Where a function of a program is whose name contains this.
    fn start_of(program: &str, function: &str) -> u64 {
        use object::{Object, ObjectSymbol};
        let bytes = std::fs::read(programs::linked(program).unwrap()).unwrap();
        let file = object::File::parse(&*bytes).unwrap();
        file.symbols().find(|symbol| symbol.name().is_ok_and(|name| name.contains(function))).unwrap().address()
    }
}
