//! `bulkhead run --stats`: exits and what shadow paging does are counted, and shown as a table.

use bulkhead_harness::Backend;

use crate::machine::{Outcome, has, run};

/// The counts of each row after guest and processor, by name.
fn rows(outcome: &Outcome) -> Vec<Vec<(&str, u64)>> {
    let table =
        outcome.terminal.lines().skip_while(|line| !line.starts_with("guest ")).take_while(|line| !line.is_empty());
    let mut lines = table.map(|line| line.split_whitespace().skip(2));
    let names: Vec<&str> = lines.next().unwrap_or_else(|| panic!("no table:\n{outcome}")).collect();
    lines.map(|row| names.iter().copied().zip(row.map(|cell| cell.parse().expect("a number"))).collect()).collect()
}

/// Two processors change the same page table all the time, and see what they should: without an interrupt from one to the other.
#[test]
fn shadow_tables_are_synchronised_without_interrupts() {
    if !has(Backend::Bochs) {
        return;
    }
    let outcome = run("partitions/bench-shadow-smp.toml", Backend::Bochs, &["--stats"])
        .expect_status(0)
        .expect_in_order(&["processors| shadow-smp: 500 rounds, all translations were right"]);
    assert!(outcome.serial.contains("processors-vmm| vmm: statistics 1 end:"), "{outcome}");
    assert!(!outcome.terminal.contains("vmm: statistics"), "{}", outcome.terminal);
    let rows = rows(&outcome);
    assert_eq!(rows.len(), 2, "{}", outcome.terminal);
    for row in rows {
        let count = |name| row.iter().find(|(other, _)| *other == name).map_or(0, |(_, count)| *count);
        for name in ["shadow-fault", "cr3-load", "shadow-invlpg", "shadow.fills", "shadow.synchronised"] {
            assert!(count(name) > 200, "{name}: {}", outcome.terminal);
        }
        assert!(count("shadow.fills") <= count("shadow-fault"), "{}", outcome.terminal);
        assert_eq!(count("shadow.sync-interrupts"), 0);
    }
    // The partitions' table is there, too, with the exits as the kernel saw them.
    let exits = outcome.terminal.lines().find(|line| line.starts_with("processors exits:")).expect("there are exits");
    assert!(exits.contains(" exception="), "{exits}");
}
