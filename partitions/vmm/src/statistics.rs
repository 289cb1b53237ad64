//! Counts of a guest processor's exits, where the manifest or `bulkhead run --stats` asks for them.
//!
//! Nothing of this is seen by the guest. It may set *checkpoints*, at which the counts are noted: it writes 32 bits, a number of its
//! choice, to the port of the PC's self-test codes. What else uses that port writes a byte, and nothing answers there on any PC.
//!
//! The lines begin with `vmm: statistics PROCESSOR AT: `, where `AT` is a checkpoint's number, or `end`. Pairs of name and count
//! follow, but for counts of 0; the counts of one processor and place may need several lines. Names without a dot are exits that the guest
//! causes, `host.` those that it does not (`host.signals`: ends of a stay in the guest because somebody signals the monitor), and `shadow.`
//! is what shadow paging has done. The host command reads them.

use crate::monitor::Monitor;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bulkhead_machine::emulate::PioExit;
use bulkhead_runtime::abi::{Error, ExitReason, StateGroups, VcpuState};
use bulkhead_runtime::println;
use bulkhead_trace_log::exits;

/// Basic exit reasons that are counted each; the architecture has few more.
const REASONS: usize = 64;
/// The preemption timer's.
const DEADLINE: usize = 52;
const IO: u64 = 30;
/// The kernel's counts, by `Counted`.
const COUNTED: [&str; 8] = [
    "host.interrupts",
    "host.slices",
    "doorbell",
    "shadow-fault",
    "guest-fault",
    "cr3-load",
    "shadow-invlpg",
    "shadow.sync-interrupts",
];
/// What shadow paging has done, by `ShadowCounter`.
const SHADOW: [&str; 6] = [
    "shadow.fills",
    "shadow.neighbours",
    "shadow.synchronised",
    "shadow.longest-list",
    "shadow.evictions",
    "shadow.flushes",
];

/// The port of the self-test codes, and how wide the accesses are that are checkpoints.
const CHECKPOINT_PORT: u16 = 0x80;
const CHECKPOINT_BYTES: u8 = 4;
/// Most checkpoints that are noted: a guest cannot use up its monitor's memory.
const MOST_CHECKPOINTS: usize = 64;
/// Longest line, by far less than the console keeps together.
const LINE: usize = 180;

/// The counts of a processor.
pub struct Statistics {
    exits: [u64; REASONS],
    signals: u64,
    checkpoints: Vec<(u32, Counts)>,
}

/// All counts at one moment.
struct Counts {
    exits: [u64; REASONS],
    signals: u64,
    counted: [u64; COUNTED.len()],
    shadow: [u64; SHADOW.len()],
}

impl Statistics {
    /// Nothing has been counted.
    pub fn new() -> Box<Self> {
        Box::new(Self { exits: [0; REASONS], signals: 0, checkpoints: Vec::new() })
    }
}

impl Monitor {
    /// Counts a stay in the guest that has ended.
    pub(crate) fn count(&mut self, reason: Result<ExitReason, Error>) {
        let state = self.processor.state();
        if reason == Ok(ExitReason::Signal)
            && let Some(statistics) = &mut self.statistics
        {
            statistics.signals += 1;
        }
        let number = match reason {
            Ok(ExitReason::Hardware) => state.exit_reason as usize,
            Ok(ExitReason::Deadline) => DEADLINE,
            // The kernel counts what a signal interrupts.
            Ok(ExitReason::Signal | ExitReason::EntryFailed) | Err(_) => return,
        };
        let checkpoint = checkpoint(state);
        if let Some(statistics) = &mut self.statistics {
            statistics.exits[number % REASONS] += 1;
            if statistics.checkpoints.len() < MOST_CHECKPOINTS
                && let Some(checkpoint) = checkpoint
                && let Some(counts) = self.counts()
                && let Some(statistics) = &mut self.statistics
            {
                statistics.checkpoints.push((checkpoint, counts));
            }
        }
    }

    fn counts(&mut self) -> Option<Counts> {
        // What cannot be fetched is shown as it was last.
        let _ = self.processor.fetch(StateGroups::SHADOW);
        let state = self.processor.state();
        let Statistics { exits, signals, .. } = **self.statistics.as_ref()?;
        Some(Counts { exits, signals, counted: state.counted, shadow: state.shadow })
    }

    /// Prints all that was counted.
    pub fn print_statistics(&mut self) {
        let (number, end) = (self.model.number(), self.counts());
        if let (Some(statistics), Some(end)) = (self.statistics.take(), end) {
            for (checkpoint, counts) in statistics.checkpoints {
                counts.print(&format!("vmm: statistics {number} {checkpoint}:"));
            }
            end.print(&format!("vmm: statistics {number} end:"));
        }
    }
}

/// The number of the checkpoint that the last exit was, if it was one.
fn checkpoint(state: &VcpuState) -> Option<u32> {
    let exit = PioExit::new(state.exit_qualification);
    let is_checkpoint = state.exit_reason == IO
        && exit.port == CHECKPOINT_PORT
        && exit.size == CHECKPOINT_BYTES
        && !exit.input
        && !exit.string;
    is_checkpoint.then(|| exit.output_value(state))
}

impl Counts {
    fn print(&self, head: &str) {
        let mut line = String::from(head);
        let exits = (0..).zip(self.exits).map(|(reason, count)| match reason {
            DEADLINE => (String::from("deadline"), count),
            _ => (exits::name(reason as u64).map_or_else(|| format!("exit-{reason}"), String::from), count),
        });
        let named = COUNTED.iter().zip(self.counted).chain(SHADOW.iter().zip(self.shadow));
        let signals = (String::from("host.signals"), self.signals);
        for (name, count) in exits.chain([signals]).chain(named.map(|(name, count)| (String::from(*name), count))) {
            if count == 0 {
                continue;
            }
            if line.len() > LINE {
                println!("{line}");
                line = String::from(head);
            }
            line.push_str(&format!(" {name}={count}"));
        }
        println!("{line}");
    }
}
