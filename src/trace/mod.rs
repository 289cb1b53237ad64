//! Traces: what the program `trace` and init printed of them, found among the serial output; summed up, and made into a file for viewers.

mod chrome;
mod names;
mod summary;

pub use chrome::chrome;
pub use summary::{partitions, summary};

use std::collections::BTreeMap;

use bulkhead_trace_log::{text::Log, timeline::Slice, totals::Totals};

/// What the console service puts before the lines of the program that writes out rings.
pub const WRITER: &str = "trace| ";
/// What init says of each partition, with its console prefix: name and generation follow.
const NAMES: &str = "init| bulkhead: trace: partition ";
/// What init says of a partition that it starts anew, with its console prefix.
const RESTART: (&str, &str) = ("init| bulkhead: partition ", " is started anew");

/// A trace, with what is known of the partitions in it.
#[derive(Debug, Default)]
pub struct Trace {
    /// The records.
    pub log: Log,
    /// Counts of them, of those in the log or of all that there ever were.
    pub totals: Totals,
    /// Slices of time by CPU, those of guests before those of the threads that they lie in.
    pub slices: BTreeMap<u32, Vec<Slice>>,
    /// Names of partitions by their generation.
    names: BTreeMap<u16, String>,
    /// How often partitions were started anew.
    restarts: BTreeMap<String, u64>,
    /// Threads by partition, in the order in which they were made.
    threads: BTreeMap<u16, Vec<u32>>,
}

impl Trace {
    /// Finds it in a serial output.
    pub fn of(serial: &str) -> Self {
        let mut trace = Self::default();
        for line in serial.lines().map(str::trim_end) {
            if let Some((name, generation)) = line.strip_prefix(NAMES).and_then(|rest| rest.split_once(" is ")) {
                // Records have no more than 16 bits of it.
                let generation = generation.parse::<u64>().unwrap_or(0) as u16;
                trace.names.insert(generation, name.to_owned());
            } else if let Some((name, _)) = line.strip_prefix(RESTART.0).and_then(|rest| rest.split_once(RESTART.1)) {
                *trace.restarts.entry(name.to_owned()).or_default() += 1;
            } else if let Some(line) = line.strip_prefix(WRITER)
                && !trace.totals.take(line)
            {
                trace.log.push(line);
            }
        }
        trace.count();
        trace
    }

    /// Counts the records of the log.
    fn count(&mut self) {
        for (&cpu, of_cpu) in &self.log.cpus {
            let slices = self.slices.entry(cpu).or_default();
            self.totals.lost = self.totals.lost.saturating_add(of_cpu.lost);
            for record in &of_cpu.records {
                self.totals.push(cpu, record, |slice| slices.push(slice));
                let threads = self.threads.entry(record.partition).or_default();
                if let Err(place) = threads.binary_search(&record.thread) {
                    threads.insert(place, record.thread);
                }
            }
        }
        self.totals.finish(|cpu, slice| self.slices.entry(cpu).or_default().push(slice));
    }

    /// Whether there is anything in it.
    pub fn is_empty(&self) -> bool {
        self.totals.partitions.is_empty()
    }

    /// What is wrong with it, for its reader.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for (cpu, _) in self.log.cpus.iter().filter(|(_, of_cpu)| !of_cpu.is_complete) {
            warnings.push(format!("the trace of CPU {cpu} is cut off or damaged: only its beginning is there"));
        }
        if self.totals.lost > 0 {
            let text = "records were overwritten before they were read: a longer ring (--ring, or `memory` in `[trace]`) keeps more";
            warnings.push(format!("{} {text}", self.totals.lost));
        }
        warnings
    }

    /// Name of a partition.
    pub fn partition(&self, generation: u16) -> String {
        match (generation, self.names.get(&generation)) {
            (0, _) => "idle".to_owned(),
            (_, Some(name)) => name.clone(),
            (_, None) => format!("partition-{generation}"),
        }
    }

    /// How often a partition was started anew.
    pub fn restarts(&self, generation: u16) -> u64 {
        self.restarts.get(&self.partition(generation)).copied().unwrap_or(0)
    }

    /// Name of a thread: its partition's, with a number if that has several.
    pub fn thread(&self, partition: u16, thread: u32) -> String {
        let name = self.partition(partition);
        match self.threads.get(&partition) {
            Some(threads) if threads.len() > 1 => {
                let place = threads.iter().position(|other| *other == thread).unwrap_or(0);
                format!("{name}#{place}")
            }
            _ => name,
        }
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_abi::{Syscall, TraceKind, TraceRecord};
    use bulkhead_trace_log::text::Writer;

    use super::*;

    /// A trace of one CPU: time, kind, partition (whose thread has the same number), arguments.
    pub struct Example(&'static [(u64, TraceKind, u16, [u64; 2])]);

    /// A client calls, a server is interrupted and answers, the client runs its guest.
    pub const EXAMPLE: Example = Example(&[
        (1000, TraceKind::Switch, 7, [0, 0]),
        (1100, TraceKind::Syscall, 7, [Syscall::Call as u64, 5]),
        (1200, TraceKind::HandOver, 8, [0, 5]),
        (1300, TraceKind::Interrupt, 8, [0xf0, 0]),
        (1400, TraceKind::Syscall, 8, [Syscall::ReplyReceive as u64, 5]),
        (1500, TraceKind::HandOver, 7, [1, 5]),
        (1700, TraceKind::Syscall, 7, [Syscall::Run as u64, 9]),
        (2000, TraceKind::Exit, 7, [10, 0]),
    ]);

    impl Example {
        pub fn serial(&self) -> String {
            let mut writer = Writer::new(0);
            let mut lines = vec!["trace: clock 1000000".to_owned()];
            for &(tsc, kind, partition, arguments) in self.0 {
                let thread = u32::from(partition);
                lines.extend(writer.push(&TraceRecord { tsc, kind: kind as u16, partition, thread, arguments }));
            }
            lines.extend(writer.finish());
            let lines: String = lines.iter().map(|line| format!("{WRITER}{line}\r\n")).collect();
            format!(
                "{NAMES}client is 7\r\n{NAMES}server is 65544\r\nhello| trace: clock 7\r\n{}server{} (1)\r\n{lines}",
                RESTART.0, RESTART.1
            )
        }
    }

    #[test]
    fn slices_follow_each_other_without_gaps() {
        let trace = Trace::of(&EXAMPLE.serial());
        assert_eq!(trace.warnings(), Vec::<String>::new());
        let threads =
            trace.slices[&0].iter().filter(|slice| slice.activity != bulkhead_trace_log::timeline::Activity::Guest);
        let times: Vec<_> = threads.map(|slice| (slice.start, slice.end)).collect();
        assert_eq!(times, [(1000, 1200), (1200, 1500), (1500, 2000)]);
        assert_eq!((trace.partition(7), trace.partition(9)), ("client".to_owned(), "partition-9".to_owned()));
    }

    #[test]
    fn what_is_cut_off_is_told() {
        let serial = EXAMPLE.serial();
        let end = serial.find("0 end").unwrap();
        assert!(Trace::of(&serial[..end]).warnings()[0].contains("CPU 0 is cut off"));
    }
}
