//! `bulkhead bench`: figures come out as JSON objects, and the same each time.

use std::process::{Command, Output};

use bulkhead_harness::Backend;

use crate::machine::{has, turn};

fn bench(filter: &str) -> Output {
    let _turn = turn();
    Command::new(env!("CARGO_BIN_EXE_bulkhead"))
        .args(["bench", "--json", "--filter", filter])
        .output()
        .expect("the command starts")
}

/// The objects, one of each line.
fn objects(output: &Output) -> Vec<serde_json::Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))).collect()
}

#[test]
fn exits_are_measured_exactly() {
    if !has(Backend::Bochs) {
        return;
    }
    let first = bench("exit.");
    assert_eq!(first.status.code(), Some(0), "{}", String::from_utf8_lossy(&first.stderr));
    let figures = objects(&first);
    let names: Vec<_> = figures.iter().map(|figure| &figure["name"]).collect();
    let expected =
        ["exit.cpuid", "exit.pio", "exit.mmio", "exit.cpuid.60", "exit.cpuid.smp", "exit.pio.smp", "exit.mmio.smp"];
    assert_eq!(names, expected);
    for figure in &figures {
        assert_eq!(figure["unit"], "instructions");
        assert_eq!(figure["n"], 1000);
        assert_eq!(figure["cpu"], "corei7_skylake_x");
        assert!(figure["min"].as_u64() <= figure["median"].as_u64());
        assert!(figure["median"].as_u64() <= figure["p95"].as_u64());
    }
    assert_eq!(bench("exit.").stdout, first.stdout);
}

/// Nothing on a hot path grows with the number of partitions.
#[test]
fn sixty_partitions_cost_no_more_than_few() {
    if !has(Backend::Bochs) {
        return;
    }
    for name in ["ipc.call_reply", "exit.cpuid"] {
        let output = bench(name);
        let figures = objects(&output);
        let [few, sixty] = [0, 1].map(|index| figures[index]["median"].as_f64().expect("a number"));
        assert_eq!(figures[1]["name"], format!("{name}.60"));
        assert!((sixty / few - 1.0).abs() <= 0.05, "{name}: {few} and {sixty}");
    }
}

/// A first access to a page exits once, as its monitor and the kernel count it.
#[test]
fn exits_of_shadow_paging_are_counted() {
    if !has(Backend::Bochs) {
        return;
    }
    let output = bench("shadow.fill");
    let figures = objects(&output);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!([0, 1].map(|index| figures[index]["name"].as_str()), [Some("shadow.fill"), Some("shadow.fill.exits")]);
    assert_eq!(figures[1]["median"].as_f64(), Some(1.0), "{figures:?}");
}

#[test]
fn kernel_is_measured_without_a_machine() {
    let output = bench("kernel.");
    assert_eq!(output.status.code(), Some(0));
    let figures = objects(&output);
    let lines = figures.iter().find(|figure| figure["name"] == "kernel.lines");
    let lines = lines.and_then(|figure| figure["median"].as_u64());
    assert!(lines.is_some_and(|lines| lines <= 10_000), "{figures:?}");
}

#[test]
fn unknown_figures_are_answered_with_the_known_ones() {
    let output = bench("warp");
    assert_eq!(output.status.code(), Some(2));
    let errors = String::from_utf8_lossy(&output.stderr);
    for name in ["ipc.call_reply", "block.read_1m.ratio", "net.tcp_mib.ratio"] {
        assert!(errors.contains(name), "{errors}");
    }
}
