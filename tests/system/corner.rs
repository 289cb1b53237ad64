//! The architecture's corner cases, each checked by guests from inside; two of them share a CPU, registers of all kinds included.

use bulkhead_harness::Backend;

use crate::machine::{has, run};

/// Fewer checks than a guest makes on a processor without AVX-512; a suite that shrinks is a suite that does not run.
const LEAST: u32 = 4000;

fn passes(arguments: &[&str]) {
    passes_as("tests/manifests/corner.toml", arguments);
}

fn passes_as(manifest: &str, arguments: &[&str]) {
    if !has(Backend::Bochs) {
        return;
    }
    let outcome = run(manifest, Backend::Bochs, arguments).expect_status(0);
    for guest in ["first", "second"] {
        let lines = outcome.lines_of(guest);
        let summary = lines.iter().find_map(|line| line.strip_prefix("corner: ")?.strip_suffix(" checks, 0 failed"));
        let checks: u32 = summary.and_then(|count| count.parse().ok()).unwrap_or(0);
        assert!(checks >= LEAST, "{guest} made {checks} checks:\n{outcome}");
        assert_eq!(lines.last(), Some(&"guest: off"), "{outcome}");
    }
}

#[test]
fn corner_cases() {
    passes(&[]);
}

#[test]
fn corner_cases_on_an_older_processor() {
    passes(&["--cpu", "corei7_sandy_bridge_2600k"]);
}

/// By `paging = "auto"`, which means shadow tables here.
#[test]
fn corner_cases_on_one_of_the_first_processors_with_vmx() {
    passes(&["--cpu", "core2_penryn_t9600"]);
}

/// Guests must not be able to tell shadow tables from extended page tables.
#[test]
fn corner_cases_with_shadow_paging() {
    passes_as("tests/manifests/corner-shadow.toml", &["--cpu", "corei7_skylake_x"]);
}

/// What accesses meet, and the bits that they leave in page tables, is the same however memory is translated.
#[test]
fn page_faults_with_both_kinds_of_paging() {
    if !has(Backend::Bochs) {
        return;
    }
    let outcome = run("tests/manifests/paging-log.toml", Backend::Bochs, &[]).expect_status(0);
    let [extended, shadowed] = ["extended", "shadowed"].map(|guest| {
        let mut lines = outcome.lines_of(guest);
        // One that was cut before its end of line stands there twice.
        lines.dedup();
        lines.retain(|line| line.starts_with("paging-log: "));
        lines
    });
    assert_eq!(extended.len(), 128, "{outcome}");
    assert_eq!(extended, shadowed);
}
