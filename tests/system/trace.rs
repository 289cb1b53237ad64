//! `bulkhead trace`: what the kernel records is what partitions and monitors say they did, and no time is missing or told twice.

use std::{collections::BTreeMap, fs, path::Path};

use bulkhead_harness::Backend;

use crate::machine::{LIMIT, Outcome, command_within, has};

/// Runs a manifest, and reads the file for viewers.
fn trace(manifest: &str, backend: Backend) -> (Outcome, serde_json::Value) {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("trace.json");
    let output = file.to_string_lossy();
    let outcome = command_within("trace", LIMIT, manifest, backend, &["--output", &output]).expect_status(0);
    let text = fs::read_to_string(&file).expect("the trace is there");
    (outcome, serde_json::from_str(&text).expect("it is JSON"))
}

/// The pairs of a line such as `hello exits: cpuid=1 io=2`.
fn pairs<'a>(outcome: &'a Outcome, head: &str) -> BTreeMap<&'a str, u64> {
    let line = outcome.terminal.lines().find_map(|line| line.strip_prefix(head)).expect("there is such a line");
    let pair = |word: &'a str| word.split_once('=').map(|(name, count)| (name, count.parse().expect("a number")));
    line.split_whitespace().filter_map(pair).collect()
}

/// The first two columns of the table: name and ticks.
fn ticks(outcome: &Outcome) -> Vec<(&str, f64)> {
    let table = outcome.terminal.lines().skip_while(|line| !line.starts_with("partition ")).skip(1);
    table
        .map_while(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?, words.next()?.parse().ok()?))
        })
        .collect()
}

#[test]
fn calls_and_times_in_a_trace_are_those_that_were() {
    if !has(Backend::Qemu) {
        return;
    }
    let (outcome, document) = trace("tests/manifests/calls.toml", Backend::Qemu);
    assert!(!outcome.messages.contains("overwritten") && !outcome.messages.contains("cut off"), "{outcome}");
    let client = outcome.lines_of("client");
    let made = client.iter().find_map(|line| line.strip_suffix(" calls made")).expect("the client says it");
    let made: u64 = made.parse().expect("a number");
    assert_eq!(pairs(&outcome, "client system calls:")["call"], made);
    // Each is a call of the server's, too; the last one is answered, and the server waits for the next.
    assert_eq!(pairs(&outcome, "server system calls:")["reply-receive"], made + 1);

    let events = document["traceEvents"].as_array().expect("a list");
    let number = |event: &serde_json::Value, key: &str| event[key].as_f64().expect("a number");
    let calls = events.iter().filter(|event| event["name"] == "call" && event["args"]["thread"] == "client").count();
    assert_eq!(calls as u64, made);
    // Slices of threads follow each other; between them the CPU is idle.
    let mut slices: Vec<_> = events.iter().filter(|event| event["ph"] == "X" && event["cat"] == "thread").collect();
    slices.sort_by(|one, other| number(one, "ts").total_cmp(&number(other, "ts")));
    assert!(slices.len() as u64 > 2 * made);
    for pair in slices.windows(2) {
        let end = number(pair[0], "ts") + number(pair[0], "dur");
        assert!(end <= number(pair[1], "ts") + 1e-3, "{} {}", pair[0], pair[1]);
    }
    // All time of the CPU is somebody's, or idle.
    let hertz = document["otherData"]["clock"].as_str().and_then(|text| text.strip_suffix(" Hz")).expect("a clock");
    let hertz: f64 = hertz.parse().expect("a number");
    let ticks = ticks(&outcome);
    let idle: f64 = ticks.iter().filter(|(name, _)| *name == "idle").map(|(_, ticks)| ticks).sum();
    let all: f64 = ticks.iter().map(|(_, ticks)| ticks).sum();
    let running: f64 = slices.iter().map(|slice| number(slice, "dur")).sum();
    assert!((running * hertz / 1e6 - (all - idle)).abs() < all / 1e3, "{running} {all} {idle}");
    let times = events.iter().filter(|event| event["ph"] != "M").map(|event| number(event, "ts"));
    let (first, last) = times.fold((f64::MAX, 0.0f64), |(first, last), time| (first.min(time), last.max(time)));
    assert!(((last - first) * hertz / 1e6 - all).abs() < all / 1e3, "{first} {last} {all}");
}

#[test]
fn budgets_are_for_periods_and_not_for_gaps() {
    if !has(Backend::Bochs) {
        return;
    }
    let (outcome, _) = trace("tests/manifests/budget-in-gaps.toml", Backend::Bochs);
    let ticks = ticks(&outcome);
    let all: f64 = ticks.iter().map(|(_, ticks)| ticks).sum();
    let limited: f64 = ticks.iter().filter(|(name, _)| *name == "limited").map(|(_, ticks)| ticks).sum();
    // 2 ms in 20 ms, and once more at the beginning.
    let share = limited / all;
    assert!((0.08..0.11).contains(&share), "{share}: {outcome}");
}

#[test]
fn exits_in_a_trace_are_those_that_the_monitor_counts() {
    if !has(Backend::Bochs) {
        return;
    }
    let (outcome, document) = trace("tests/manifests/traced-guest.toml", Backend::Bochs);
    let recorded = pairs(&outcome, "hello exits:");
    let counted = outcome.counts("hello");
    let mut compared = 0;
    for (name, count) in counted.iter().filter(|(name, _)| !name.contains('.')) {
        assert_eq!(recorded.get(name.as_str()), Some(count), "{name}: {counted:?} {recorded:?}");
        compared += 1;
    }
    assert!(compared >= 2, "{counted:?}");
    let events = document["traceEvents"].as_array().expect("a list");
    assert!(events.iter().any(|event| event["name"] == "hello: guest" && event["ph"] == "X"));
}
