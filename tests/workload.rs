//! The workload of `builtin:checks` is a Linux program: on this host it must pass, too, on all processors and on one.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use std::process::Command;

const PARTS: [&str; 4] = ["pipes", "futexes", "forks", "mappings"];

/// Runs it, by `taskset` on some of the processors; `None` if that is not there.
fn run(command: &mut Command) -> Option<Vec<String>> {
    let output = command.output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    let lines: Vec<_> = text.lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), PARTS.len(), "{text}");
    for (line, part) in lines.iter().zip(PARTS) {
        assert!(line.starts_with(&format!("check: {part} ok processors=")), "{text}");
    }
    Some(lines)
}

#[test]
fn passes_on_all_processors() {
    run(&mut Command::new(env!("BULKHEAD_WORKLOAD"))).expect("the program starts");
}

#[test]
fn passes_on_one_processor() {
    let lines = run(Command::new("taskset").args(["1", env!("BULKHEAD_WORKLOAD")]));
    for line in lines.unwrap_or_default() {
        assert!(line.contains(" processors=1 "), "{line}");
    }
}
