//! Writes the kernel's trace rings to the console as lines of text, when init asks for it at the system's end; or counts the records as
//! they come, and writes the counts.
//!
//! It must never write to a ring (they are mapped read-only), nor say anything before it is asked.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bulkhead_abi::NO_DEADLINE;
use bulkhead_runtime::plan::{StatusReport, layout};
use bulkhead_runtime::shared::SharedMemory;
use bulkhead_runtime::status::Command;
use bulkhead_runtime::{Program, entry, events, println, time};
use bulkhead_trace_log::ring::{Item, Memory, Reader};
use bulkhead_trace_log::text::{HEAD, Writer};
use bulkhead_trace_log::totals::Totals;
use core::sync::atomic::{AtomicU64, Ordering};

entry!(main);

/// Text of the environment: records are counted as they come, and only the counts are written.
const TOTALS: &str = "totals";

/// A CPU's ring.
struct Ring(SharedMemory<'static>);

impl Memory for Ring {
    fn words(&self) -> usize {
        self.0.len() / size_of::<u64>()
    }

    fn load(&self, index: usize, order: Ordering) -> u64 {
        let word = self.0.atomic::<AtomicU64>(index.saturating_mul(size_of::<u64>()));
        word.map_or(0, |word| word.load(order))
    }
}

/// How often the rings are looked at where records are only counted, in milliseconds: soon enough for short rings.
const PERIOD: u64 = 2;

fn main(program: Program) {
    let ring = |cpu| Some((cpu, Ring(program.memory(&format!("trace-{cpu}"))?.0)));
    let rings: Vec<(u32, Ring)> = (0..layout::MAX_CPUS).filter_map(ring).collect();
    let is_over = || program.status().is_none_or(|status| status.command() == Command::Finish);
    let text = if program.environment().text(TOTALS).is_some() {
        count(&rings, is_over);
        String::from("records counted")
    } else {
        while !is_over() {
            events::wait(NO_DEADLINE);
        }
        println!("{HEAD}clock {}", time::frequency());
        let records: u64 = rings.iter().map(|(cpu, ring)| write(*cpu, ring)).sum();
        format!("{records} records written")
    };
    program.report(StatusReport::Finished, 0, &text);
    loop {
        events::wait(NO_DEADLINE);
    }
}

/// Counts all records as they come, until it is over, and writes the counts.
fn count(rings: &[(u32, Ring)], is_over: impl Fn() -> bool) {
    let mut totals = Totals::default();
    let mut readers: Vec<Reader> = rings.iter().map(|_| Reader::default()).collect();
    loop {
        // Asked before the last look at the rings.
        let is_last = is_over();
        for ((cpu, ring), reader) in rings.iter().zip(&mut readers) {
            // What comes meanwhile, of this program itself among others, is for the next time.
            for item in core::iter::from_fn(|| reader.read(ring)).take(ring.words()) {
                match item {
                    Item::Record(record) => totals.push(*cpu, &record, |_| {}),
                    Item::Lost(count) => totals.lost(*cpu, count, |_| {}),
                }
            }
        }
        if is_last {
            break;
        }
        events::wait(time::now().saturating_add(time::milliseconds(PERIOD)));
    }
    totals.finish(|_, _| {});
    println!("{HEAD}clock {}", time::frequency());
    for line in totals.lines() {
        println!("{line}");
    }
}

/// Writes all records of a CPU; how many these were.
fn write(cpu: u32, ring: &Ring) -> u64 {
    let (mut reader, mut writer) = (Reader::default(), Writer::new(cpu));
    let mut records = 0;
    while let Some(item) = reader.read(ring) {
        match item {
            Item::Record(record) => {
                records += 1;
                if let Some(line) = writer.push(&record) {
                    println!("{line}");
                }
            }
            Item::Lost(count) => writer.lost(count),
        }
    }
    for line in writer.finish() {
        println!("{line}");
    }
    records
}
