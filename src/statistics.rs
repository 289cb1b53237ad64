//! The counts that virtual machine monitors print at their guests' ends: found among the serial output, hidden, and tabulated. Hidden are
//! lines of traces, too.
//!
//! What the lines look like is said in `partitions/vmm/src/statistics.rs`.

use std::collections::BTreeMap;

/// What the text of such a line begins with, after the name of the partition.
const HEAD: &str = "| vmm: statistics ";
/// What lines of a trace begin with.
const TRACE: &[u8] = b"trace| trace: ";
/// The longest name of a partition: a guest's, and the ending of its monitor's.
const LONGEST_NAME: usize = 32;
/// How the console service calls the monitor of a guest.
const MONITOR: &str = "-vmm";

/// When counts were noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// At a checkpoint of the guest's, which has this number.
    Checkpoint(u32),
    /// At the guest's end.
    End,
}

/// What was counted for a processor of a guest until then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    pub guest: String,
    pub processor: u32,
    pub at: At,
    /// By name; what is missing is 0.
    pub counts: BTreeMap<String, u64>,
    /// The names in the order in which they were printed.
    order: Vec<String>,
}

impl Counts {
    /// The exits that the guest has caused.
    pub fn exits(&self) -> u64 {
        let of_guest = self.counts.iter().filter(|(name, _)| !name.contains('.'));
        of_guest.fold(0, |sum: u64, (_, count)| sum.saturating_add(*count))
    }

    /// A count.
    pub fn get(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or(0)
    }
}

/// All counts in a serial output, in its order. Lines that are damaged count for nothing.
pub fn counts_of(serial: &str) -> Vec<Counts> {
    let mut all: Vec<Counts> = Vec::new();
    for (guest, processor, at, pairs) in serial.lines().filter_map(parse) {
        // A checkpoint may come again; the lines of one follow each other, and name nothing twice.
        let last = all.iter().rposition(|other| other.guest == guest && other.processor == processor);
        let belongs =
            |last: &usize| all[*last].at == at && pairs.iter().all(|(name, _)| !all[*last].counts.contains_key(*name));
        let place = last.filter(belongs).unwrap_or_else(|| {
            let (guest, counts) = (guest.to_owned(), BTreeMap::new());
            all.push(Counts { guest, processor, at, counts, order: Vec::new() });
            all.len() - 1
        });
        for (name, count) in pairs {
            all[place].counts.insert(name.to_owned(), count);
            all[place].order.push(name.to_owned());
        }
    }
    all
}

type Line<'a> = (&'a str, u32, At, Vec<(&'a str, u64)>);

fn parse(line: &str) -> Option<Line<'_>> {
    let (partition, rest) = line.split_once(HEAD)?;
    let (place, pairs) = rest.split_once(':')?;
    let (processor, at) = place.split_once(' ')?;
    let at = if at == "end" { At::End } else { At::Checkpoint(at.parse().ok()?) };
    let pairs = pairs.split_whitespace().map(pair).collect::<Option<_>>()?;
    Some((partition.strip_suffix(MONITOR)?, processor.parse().ok()?, at, pairs))
}

fn pair(text: &str) -> Option<(&str, u64)> {
    let (name, count) = text.split_once('=')?;
    Some((name, count.parse().ok()?))
}

/// A table of what was counted until the guests' ends: a row for each guest and processor. Empty if nothing was.
pub fn table(serial: &str) -> String {
    let mut ends: Vec<Counts> = counts_of(serial).into_iter().filter(|counts| counts.at == At::End).collect();
    ends.sort_by(|one, other| (&one.guest, one.processor).cmp(&(&other.guest, other.processor)));
    let mut names: Vec<&str> = Vec::new();
    for name in ends.iter().flat_map(|counts| &counts.order) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    if ends.is_empty() {
        return String::new();
    }
    let heads = ["guest", "processor"].into_iter().chain(names.iter().copied()).map(str::to_owned);
    let mut rows = vec![heads.collect::<Vec<_>>()];
    for counts in &ends {
        let numbers = names.iter().map(|name| counts.get(name).to_string());
        rows.push([counts.guest.clone(), counts.processor.to_string()].into_iter().chain(numbers).collect());
    }
    aligned(&rows)
}

/// The first column to the left, the others to the right.
pub fn aligned(rows: &[Vec<String>]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
            0 => format!("{cell:width$}"),
            _ => format!("  {cell:>width$}"),
        });
        cells.collect::<String>() + "\n"
    };
    rows.iter().map(line).collect()
}

/// Lets serial output through as it comes, but for lines of counts and of traces.
#[derive(Debug, Default)]
pub struct Filter {
    /// The beginning of a line that may be one of counts.
    held: Vec<u8>,
    line: Kind,
}

/// What a line is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Unknown,
    Shown,
    Hidden,
}

impl Filter {
    /// What is to be shown now that these bytes have come.
    pub fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut shown = Vec::new();
        for &byte in bytes {
            if self.line == Kind::Unknown {
                self.held.push(byte);
                self.line = kind(&self.held);
                if self.line == Kind::Shown {
                    shown.append(&mut self.held);
                }
            } else if self.line == Kind::Shown {
                shown.push(byte);
            }
            if byte == b'\n' {
                self.line = Kind::Unknown;
                self.held.clear();
            }
        }
        shown
    }

    /// What is left when nothing comes any more.
    pub fn rest(&mut self) -> Vec<u8> {
        if self.line == Kind::Hidden { Vec::new() } else { std::mem::take(&mut self.held) }
    }
}

/// What a line is that begins so.
fn kind(beginning: &[u8]) -> Kind {
    if beginning.starts_with(TRACE) {
        return Kind::Hidden;
    }
    if TRACE.starts_with(beginning) {
        return Kind::Unknown;
    }
    let is_name = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    let name = beginning.iter().take_while(|byte| is_name(byte)).count();
    let ((name, rest), head) = (beginning.split_at(name), HEAD.as_bytes());
    let may_be = name.len() <= LONGEST_NAME && (rest.is_empty() || name.ends_with(MONITOR.as_bytes()));
    match () {
        () if may_be && rest.starts_with(head) => Kind::Hidden,
        () if may_be && head.starts_with(rest) => Kind::Unknown,
        () => Kind::Shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERIAL: &str = "init| x\r\nsmall-vmm| vmm: statistics 0 7: io=3 shadow.fills=1\r\n\
                          small-vmm| vmm: statistics 0 end: io=12\r\nsmall| vmm: statistics 0 end: io=99\r\n\
                          small-vmm| vmm: statistics 0 end: shadow.fills=4 shadow.flushes=2\r\nbig-vmm| vmm: statistics 1 end: io=1\r\n\
                          big-vmm| vmm: statistics 1 en\nbig-vmm| vmm: statistics 1 end: io=x\ninit| y\r\n";

    #[test]
    fn counts_are_found_and_lines_of_one_place_belong_together() {
        let all = counts_of(SERIAL);
        assert_eq!(all.len(), 3);
        assert_eq!((all[0].at, all[0].get("io"), all[0].get("hlt")), (At::Checkpoint(7), 3, 0));
        assert_eq!((all[1].at, all[1].get("io"), all[1].get("shadow.fills")), (At::End, 12, 4));
        assert_eq!(all[1].exits(), 12);
        assert_eq!((all[2].guest.as_str(), all[2].processor), ("big", 1));
    }

    #[test]
    fn the_table_has_a_row_for_each_guest_and_processor() {
        let expected = "guest  processor  io  shadow.fills  shadow.flushes\n\
                        big            1   1             0               0\n\
                        small          0  12             4               2\n";
        assert_eq!(table(SERIAL), expected);
        assert_eq!(table("init| x\n"), "");
    }

    #[test]
    fn other_output_is_shown_as_it_comes() {
        for size in 1..40 {
            let mut filter = Filter::default();
            let trace = b"trace| trace: 0 0 AAAA 1\r\ntrace| trac\ntracer| trace: x\n";
            let shown: Vec<u8> = trace.chunks(size).flat_map(|bytes| filter.pass(bytes)).collect();
            assert_eq!(String::from_utf8(shown).unwrap(), "trace| trac\ntracer| trace: x\n");
            let shown: Vec<u8> = SERIAL.as_bytes().chunks(size).flat_map(|bytes| filter.pass(bytes)).collect();
            assert_eq!(
                String::from_utf8(shown).unwrap(),
                "init| x\r\nsmall| vmm: statistics 0 end: io=99\r\ninit| y\r\n"
            );
        }
        let mut filter = Filter::default();
        assert_eq!(filter.pass(b"linux| ~ # "), b"linux| ~ # ");
        assert_eq!(filter.pass(b"ls\nabc"), b"ls\n");
        assert_eq!(filter.rest(), b"abc");
    }
}
