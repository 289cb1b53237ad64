//! Records as lines of text.
//!
//! | line | says |
//! | --- | --- |
//! | `trace: clock HERTZ` | ticks of the time-stamp counter in a second |
//! | `trace: CPU NUMBER BASE64 CHECK` | some records, which follow those of the line with the number before |
//! | `trace: CPU end LINES LOST` | so many lines were all; so many records were overwritten before they could be read |
//!
//! CHECK is the CRC-32 of what is before it in the line.

use crate::bytes::{decode, encode};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bulkhead_abi::TraceRecord;
use crc::{CRC_32_ISO_HDLC, Crc};

/// What all lines begin with.
pub const HEAD: &str = "trace: ";
/// Bytes of a line's records from which on it is ended: a line of the console has 256 bytes.
const LINE_BYTES: usize = 100;
const CHECK: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);

/// Writes a CPU's records.
#[derive(Debug)]
pub struct Writer {
    cpu: u32,
    lines: u64,
    lost: u64,
    bytes: Vec<u8>,
    before: TraceRecord,
}

impl Writer {
    /// Nothing yet.
    pub fn new(cpu: u32) -> Self {
        Self { cpu, lines: 0, lost: 0, bytes: Vec::new(), before: TraceRecord::default() }
    }

    /// Adds a record; the line that is full with it.
    pub fn push(&mut self, record: &TraceRecord) -> Option<String> {
        encode(&mut self.bytes, &self.before, record);
        self.before = *record;
        (self.bytes.len() >= LINE_BYTES).then(|| self.line())
    }

    /// Counts records that could not be read.
    pub fn lost(&mut self, count: u64) {
        self.lost = self.lost.saturating_add(count);
    }

    fn line(&mut self) -> String {
        let records = STANDARD_NO_PAD.encode(&self.bytes);
        self.bytes.clear();
        let line = format!("{HEAD}{} {} {records}", self.cpu, self.lines);
        self.lines += 1;
        let check = CHECK.checksum(line.as_bytes());
        format!("{line} {check:08x}")
    }

    /// The last lines.
    pub fn finish(mut self) -> [String; 2] {
        let rest = self.line();
        [rest, format!("{HEAD}{} end {} {}", self.cpu, self.lines, self.lost)]
    }
}

/// What was read of a CPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// Its records, in order.
    pub records: Vec<TraceRecord>,
    /// Records that were overwritten before they could be read.
    pub lost: u64,
    /// Lines that came.
    lines: u64,
    /// Whether all lines came, and came whole.
    pub is_complete: bool,
    is_damaged: bool,
}

/// Reads lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// Ticks a second; 0 if that was not said.
    pub hertz: u64,
    /// What was read, by CPU.
    pub cpus: BTreeMap<u32, Cpu>,
}

impl Log {
    /// Takes a line, without what the console service puts before it. Whether it is one of a trace.
    pub fn push(&mut self, line: &str) -> bool {
        let Some(rest) = line.strip_prefix(HEAD) else { return false };
        let mut words = rest.split(' ');
        let (Some(first), Some(second)) = (words.next(), words.next()) else { return true };
        if first == "clock" {
            self.hertz = second.parse().unwrap_or(0);
        } else if let Ok(number) = first.parse() {
            let cpu = self.cpus.entry(number).or_default();
            let number = |word: Option<&str>| word.and_then(|word| word.parse::<u64>().ok());
            if second == "end" {
                let (lines, lost) = (number(words.next()), number(words.next()));
                cpu.is_complete = lines == Some(cpu.lines) && lost.is_some() && !cpu.is_damaged;
                cpu.lost = cpu.lost.saturating_add(lost.unwrap_or(0));
            } else if cpu.take(line, number(Some(second))).is_none() {
                cpu.is_damaged = true;
            }
        }
        true
    }
}

impl Cpu {
    /// Takes a line of records. Nothing, if it is damaged or not the next one, or one before it was.
    fn take(&mut self, line: &str, number: Option<u64>) -> Option<()> {
        let (checked, check) = line.rsplit_once(' ')?;
        let (_, records) = checked.rsplit_once(' ')?;
        let is_whole = u32::from_str_radix(check, 16).is_ok_and(|check| check == CHECK.checksum(checked.as_bytes()));
        if !is_whole || number != Some(self.lines) || self.is_damaged {
            return None;
        }
        self.lines += 1;
        let bytes = STANDARD_NO_PAD.decode(records).ok()?;
        let mut bytes = bytes.as_slice();
        while !bytes.is_empty() {
            let before = self.records.last().copied().unwrap_or_default();
            self.records.push(decode(&mut bytes, &before)?);
        }
        Some(())
    }
}
