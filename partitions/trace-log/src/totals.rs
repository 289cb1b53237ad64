//! What is counted of records: for each partition its time, and what it did in it.

use crate::text::HEAD;
use crate::timeline::{Activity, Slice, Timeline};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bulkhead_abi::{EXIT_TIMED, ExitReason, TraceKind, TraceRecord};

/// What lines of counts begin with.
const TOTALS: &str = "totals ";
/// Numbers of exits that are no reasons of the hardware: time was up; reasons of the kernel ([`ExitReason`]) follow.
pub const EXIT_SLICE: u64 = 1 << 16;

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Count {
    /// Ticks of CPUs.
    Ticks,
    /// Ticks of them in its guest.
    GuestTicks,
    /// How often a thread of it got a CPU.
    Switches,
    /// Most ticks that a thread had a CPU without a break.
    Longest,
    /// Interrupts while it had a CPU.
    Interrupts,
    /// Exceptions.
    Faults,
    /// How often its budget was used up.
    Throttles,
    /// System calls with this number.
    Syscall(u64),
    /// Exits of its guest: the basic reason, or [`EXIT_SLICE`], or a reason of the kernel behind it.
    Exit(u64),
}

impl Count {
    const PLAIN: [(&'static str, Self); 7] = [
        ("ticks", Self::Ticks),
        ("guest", Self::GuestTicks),
        ("switches", Self::Switches),
        ("longest", Self::Longest),
        ("interrupts", Self::Interrupts),
        ("faults", Self::Faults),
        ("throttles", Self::Throttles),
    ];

    fn key(self) -> String {
        let plain = Self::PLAIN.iter().find(|(_, count)| *count == self);
        match (self, plain) {
            (_, Some((name, _))) => String::from(*name),
            (Self::Syscall(number), _) => format!("syscall.{number}"),
            (Self::Exit(number), _) => format!("exit.{number}"),
            _ => String::new(),
        }
    }

    fn parse(key: &str) -> Option<Self> {
        if let Some((_, count)) = Self::PLAIN.iter().find(|(name, _)| *name == key) {
            return Some(*count);
        }
        match key.split_once('.')? {
            ("syscall", number) => Some(Self::Syscall(number.parse().ok()?)),
            ("exit", number) => Some(Self::Exit(number.parse().ok()?)),
            _ => None,
        }
    }
}

/// Counts by partition.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// By the partition's generation; 0 is idleness.
    pub partitions: BTreeMap<u16, BTreeMap<Count, u64>>,
    /// Records that were lost.
    pub lost: u64,
    cpus: BTreeMap<u32, Timeline>,
}

impl Totals {
    /// Counts a record of a CPU; hands on the slices that have ended with it.
    pub fn push(&mut self, cpu: u32, record: &TraceRecord, mut ended: impl FnMut(Slice)) {
        let mut timeline = self.cpus.get(&cpu).copied().unwrap_or_default();
        timeline.push(record, |slice| {
            self.slice(&slice);
            ended(slice);
        });
        self.cpus.insert(cpu, timeline);
        let [first, second] = record.arguments;
        let count = match TraceKind::from_number(u64::from(record.kind)) {
            Some(TraceKind::Switch | TraceKind::HandOver) => Count::Switches,
            Some(TraceKind::Syscall) => Count::Syscall(first),
            Some(TraceKind::Exit) => Count::Exit(exit(first, second)),
            Some(TraceKind::Interrupt) => Count::Interrupts,
            Some(TraceKind::Fault) => Count::Faults,
            Some(TraceKind::Throttle) => Count::Throttles,
            Some(TraceKind::Enter) | None => return,
        };
        self.add(record.partition, count, 1);
    }

    /// Records of a CPU are missing here.
    pub fn lost(&mut self, cpu: u32, count: u64, mut ended: impl FnMut(Slice)) {
        self.lost = self.lost.saturating_add(count);
        let mut timeline = self.cpus.get(&cpu).copied().unwrap_or_default();
        timeline.lost(|slice| {
            self.slice(&slice);
            ended(slice);
        });
        self.cpus.insert(cpu, timeline);
    }

    /// There are no more records.
    pub fn finish(&mut self, mut ended: impl FnMut(u32, Slice)) {
        let cpus: Vec<u32> = self.cpus.keys().copied().collect();
        for cpu in cpus {
            self.lost(cpu, 0, |slice| ended(cpu, slice));
        }
    }

    fn add(&mut self, partition: u16, count: Count, more: u64) {
        let place = self.partitions.entry(partition).or_default().entry(count).or_default();
        *place = place.saturating_add(more);
    }

    fn slice(&mut self, slice: &Slice) {
        let ticks = slice.end.saturating_sub(slice.start);
        match slice.activity {
            Activity::Guest => self.add(slice.partition, Count::GuestTicks, ticks),
            Activity::Idle | Activity::Thread => {
                self.add(slice.partition, Count::Ticks, ticks);
                let longest = self.partitions.entry(slice.partition).or_default().entry(Count::Longest).or_default();
                *longest = ticks.max(*longest);
            }
        }
    }

    /// The counts as lines of text.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let lost = core::iter::once(format!("{HEAD}{TOTALS}lost {}", self.lost));
        let counts = self.partitions.iter().flat_map(|(partition, counts)| {
            counts.iter().map(move |(count, value)| format!("{HEAD}{TOTALS}{partition} {} {value}", count.key()))
        });
        counts.chain(lost)
    }

    /// Takes a line; whether it was one of counts.
    pub fn take(&mut self, line: &str) -> bool {
        let Some(rest) = line.strip_prefix(HEAD).and_then(|rest| rest.strip_prefix(TOTALS)) else { return false };
        let mut words = rest.split(' ');
        match (words.next(), words.next(), words.next()) {
            (Some("lost"), Some(count), None) => self.lost = count.parse().unwrap_or(0),
            (Some(partition), Some(key), Some(value)) => {
                if let (Ok(partition), Some(count), Ok(value)) = (partition.parse(), Count::parse(key), value.parse()) {
                    self.add(partition, count, value);
                }
            }
            _ => {}
        }
        true
    }
}

/// The number under which an exit is counted, from a record's arguments.
pub fn exit(reason: u64, end: u64) -> u64 {
    match end {
        EXIT_TIMED => EXIT_SLICE,
        end if end == ExitReason::Deadline as u64 || end == ExitReason::EntryFailed as u64 => {
            EXIT_SLICE.saturating_add(end)
        }
        _ => reason,
    }
}
