//! A native partition that asks for everything that it may not have: each question has its refusal, and nobody else notices.

use bulkhead_harness::Backend;

use crate::dump::{self, Table};
use crate::machine::{Outcome, has, run_within};

/// Questions there must be at least.
const PROBES: usize = 576;
/// Of those, at least so many that end with a fault.
const FAULTS: usize = 200;

/// What a question was answered with, by init: vector, and address of a page fault.
fn faults(outcome: &Outcome) -> Vec<(u64, u64)> {
    let number = |text: &str, before: &str, radix| {
        let digits = text.split_once(before).expect("the report has it").1;
        let end = digits.find(|digit: char| !digit.is_ascii_hexdigit()).unwrap_or(digits.len());
        u64::from_str_radix(&digits[..end], radix).expect("a number")
    };
    let reports =
        outcome.lines_of("init").into_iter().filter(|line| line.starts_with("bulkhead: partition hostile thread 0: "));
    reports.map(|line| (number(line, "(vector ", 10), number(line, "address 0x", 16))).collect()
}

/// All tables but one must be the same after the seal and at the end.
fn unchanged(outcome: &Outcome) -> Vec<Table> {
    let lines = outcome.lines_of("init");
    let (before, after) = (dump::tables(&lines, "after the seal"), dump::tables(&lines, "at the end"));
    assert_eq!(before, after, "a capability has changed");
    dump::check_account(&after);
    assert_eq!(lines.iter().filter(|line| **line == "cap end 0 contradictions").count(), 2, "{outcome}");
    after
}

/// The one who has nothing to do with it lives on.
fn steady(outcome: &Outcome) {
    let steady = outcome.lines_of("steady");
    assert_eq!(steady, ["hello from partition steady (generation 0)", "1 s since start"], "{outcome}");
}

/// The neighbour's memory is what it was.
fn left_alone(outcome: &Outcome, neighbour: &str) {
    steady(outcome);
    let neighbour = outcome.lines_of(neighbour);
    let [before, after] = neighbour[..] else { panic!("the neighbour says something else:\n{outcome}") };
    let hash = before.strip_prefix("its memory is ").expect("a hash");
    assert!(
        after.starts_with("after ") && after.ends_with(&format!(" calls its memory is {hash}")),
        "{after}, {before}"
    );
}

#[test]
fn everything_that_is_not_granted_is_refused() {
    if has(Backend::Qemu) {
        ask_for_everything(Backend::Qemu);
    }
}

#[test]
#[ignore = "takes a minute"]
fn everything_that_is_not_granted_is_refused_by_a_processor_of_another_make() {
    if has(Backend::Bochs) {
        ask_for_everything(Backend::Bochs);
    }
}

fn ask_for_everything(backend: Backend) {
    let outcome = run_within(300, "tests/manifests/hostile-partition.toml", backend, &[])
        .expect_status(0)
        .expect_absent("NOT")
        .expect_in_order(&["init| bulkhead: end: ok"]);
    let lines = outcome.lines_of("hostile");
    let probes: Vec<_> = lines.iter().filter_map(|line| line.strip_prefix("probe ")?.split_once(": ")).collect();
    for (number, (found, _)) in (1..).zip(&probes) {
        assert_eq!(found.parse(), Ok(number), "a question is missing, or was asked twice");
    }
    assert!(probes.len() >= PROBES, "{} questions", probes.len());
    let mut questions: Vec<_> = probes.iter().map(|(_, text)| *text).collect();
    questions.sort_unstable();
    let repeated: Vec<_> = questions.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    assert!(repeated.is_empty(), "asked twice: {repeated:#?}");
    assert_eq!(lines.last(), Some(&format!("{} probes, 0 not refused", probes.len()).as_str()));
    // What faults must end with is said before, and init, which does not know it, reports what it ended with.
    let expected: Vec<(Vec<u64>, u64)> = probes
        .iter()
        .filter_map(|(_, text)| text.split_once(": ends with vector [")?.1.split_once("] at 0x"))
        .map(|(vectors, address)| {
            let vectors = vectors.split(", ").map(|vector| vector.parse().expect("a number")).collect();
            (vectors, u64::from_str_radix(address, 16).expect("an address"))
        })
        .collect();
    let refused = probes.iter().filter(|(_, text)| text.contains(": refused, ")).count();
    assert_eq!(expected.len() + refused, probes.len(), "each question has one answer");
    assert!(expected.len() >= FAULTS, "{} faults", expected.len());
    let found = faults(&outcome);
    assert_eq!(found.len(), expected.len());
    for ((vector, address), (vectors, at)) in found.iter().zip(&expected) {
        let is_there = vectors.len() > 1 || address == at;
        assert!(
            vectors.contains(vector) && is_there,
            "vector {vector} at {address:#x} instead of {vectors:?} at {at:#x}"
        );
    }
    left_alone(&outcome, "neighbour");
    unchanged(&outcome);
}

/// `partitions`: who calls at random, and whose neighbour may not notice it.
fn random_calls(limit: u64, manifest: &str, calls: &str, partitions: &[(&str, &str)]) {
    if !has(Backend::Qemu) {
        return;
    }
    let outcome = run_within(limit, manifest, Backend::Qemu, &[]).expect_status(0);
    for (seed, (name, neighbour)) in (1..).zip(partitions) {
        let lines = outcome.lines_of(name);
        println!("{}", lines.join("\n"));
        assert_eq!(lines.first(), Some(&format!("{calls} system calls, seed {seed}").as_str()), "{outcome}");
        let answered = lines.iter().filter_map(|line| line.strip_prefix("answered ")?.split_once(" times: "));
        let answered: Vec<(u64, &str)> =
            answered.map(|(count, what)| (count.parse().expect("a number"), what)).collect();
        assert_eq!(answered.iter().map(|(count, _)| count).sum::<u64>(), calls.parse::<u64>().unwrap(), "{answered:?}");
        // What the program may do it did, too, and what is refused was refused for most reasons that there are.
        assert!(answered.iter().any(|(count, what)| *what == "done" && *count > 1000), "{answered:?}");
        assert!(answered.len() > 12, "{answered:?}");
        left_alone(&outcome, neighbour);
    }
    unchanged(&outcome);
}

#[test]
fn random_system_calls_on_two_cpus_change_nothing_for_others() {
    let partitions = [("hostile", "neighbour"), ("second", "second-neighbour")];
    random_calls(120, "tests/manifests/random-calls.toml", "100000", &partitions);
}

#[test]
#[ignore = "takes half a minute"]
fn ten_million_random_system_calls_change_nothing_for_others() {
    random_calls(1800, "tests/manifests/random-calls-long.toml", "10000000", &[("hostile", "neighbour")]);
}

#[test]
fn a_monitor_that_runs_its_guest_from_random_states_changes_nothing_for_others() {
    if !has(Backend::Bochs) {
        return;
    }
    // With extended page tables, and with shadow tables; the second model has neither those nor a preemption timer.
    for model in ["corei7_skylake_x", "core2_penryn_t9600"] {
        let outcome = run_within(200, "tests/manifests/random-monitor.toml", Backend::Bochs, &["--cpu", model])
            .expect_status(0)
            .expect_in_order(&["polite| guest: off"])
            .expect_in_order(&["init| bulkhead: end: ok"]);
        for (seed, name) in [(1, "hostile"), (2, "shadowed")] {
            let lines = outcome.lines_of(&format!("{name}-vmm"));
            assert_eq!(
                lines.first(),
                Some(&format!("40000 runs and calls of a monitor, seed {seed}").as_str()),
                "{outcome}"
            );
            let ended = lines.iter().filter_map(|line| line.strip_prefix("ran ")?.split_once(" times to "));
            for (count, what) in ended {
                let count: u64 = count.parse().expect("a number");
                assert!(
                    if what == "an error" { count == 0 } else { count > 20 },
                    "{name} on {model} {count} times to {what}"
                );
            }
        }
        steady(&outcome);
        unchanged(&outcome);
    }
}
