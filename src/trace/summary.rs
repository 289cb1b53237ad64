//! A trace summed up as text.

use std::{collections::BTreeMap, fmt::Write};

use bulkhead_abi::Syscall;
use bulkhead_trace_log::totals::Count;

use super::{Trace, names};
use crate::statistics::aligned;

/// Columns of the table, behind name and time.
const COLUMNS: [(&str, Count); 7] = [
    ("guest", Count::GuestTicks),
    ("switches", Count::Switches),
    ("longest", Count::Longest),
    ("calls", Count::Syscall(Syscall::Call as u64)),
    ("interrupts", Count::Interrupts),
    ("faults", Count::Faults),
    ("throttled", Count::Throttles),
];

/// Each CPU in a line; then as [`partitions`].
pub fn summary(trace: &Trace) -> String {
    let mut text = String::new();
    for (cpu, of_cpu) in &trace.log.cpus {
        let ticks = match (of_cpu.records.first(), of_cpu.records.last()) {
            (Some(first), Some(last)) => last.tsc.saturating_sub(first.tsc),
            _ => 0,
        };
        let milliseconds = ticks as f64 * 1e3 / trace.log.hertz.max(1) as f64;
        let _ =
            writeln!(text, "CPU {cpu}: {} records, {milliseconds:.3} ms, {} lost", of_cpu.records.len(), of_cpu.lost);
    }
    text.push_str(&partitions(trace));
    text
}

/// The partitions in a table, then their system calls and the exits of their guests. Empty if nothing was recorded.
pub fn partitions(trace: &Trace) -> String {
    if trace.is_empty() {
        return String::new();
    }
    let ticks = trace.totals.partitions.values().filter_map(|counts| counts.get(&Count::Ticks));
    // Numbers are what the console, or a file, brought.
    let all = ticks.fold(0u64, |sum, ticks| sum.saturating_add(*ticks));
    let heads = ["partition", "ticks", "share"].into_iter().chain(COLUMNS.map(|(head, _)| head)).chain(["restarts"]);
    let mut rows = vec![heads.map(str::to_owned).collect::<Vec<_>>()];
    for (&partition, counts) in &trace.totals.partitions {
        let get = |count| counts.get(&count).copied().unwrap_or(0);
        let share = get(Count::Ticks) as f64 * 100.0 / all.max(1) as f64;
        let mut row = vec![trace.partition(partition), get(Count::Ticks).to_string(), format!("{share:.1} %")];
        row.extend(COLUMNS.map(|(_, count)| get(count).to_string()));
        row.push(trace.restarts(partition).to_string());
        rows.push(row);
    }
    let mut text = aligned(&rows);
    for (&partition, counts) in &trace.totals.partitions {
        let named = |name: &dyn Fn(Count) -> Option<String>| {
            let pairs = counts.iter().filter_map(|(count, value)| Some((name(*count)?, value)));
            pairs.collect::<BTreeMap<_, _>>().iter().map(|(name, value)| format!(" {name}={value}")).collect::<String>()
        };
        let syscalls =
            named(&|count| if let Count::Syscall(number) = count { Some(names::syscall(number)) } else { None });
        let exits = named(&|count| if let Count::Exit(number) = count { Some(names::exit(number)) } else { None });
        for (what, list) in [("system calls", syscalls), ("exits", exits)].iter().filter(|(_, list)| !list.is_empty()) {
            let _ = writeln!(text, "{} {what}:{list}", trace.partition(partition));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::{WRITER, tests::EXAMPLE};
    use super::*;

    #[test]
    fn everything_is_counted_for_its_partition() {
        let trace = Trace::of(&EXAMPLE.serial());
        assert_eq!(
            summary(&trace),
            "CPU 0: 8 records, 1.000 ms, 0 lost\n\
             partition  ticks   share  guest  switches  longest  calls  interrupts  faults  throttled  restarts\n\
             client       700  70.0 %    300         2      500      1           0       0          0         0\n\
             server       300  30.0 %      0         1      300      0           1       0          0         1\n\
             client system calls: call=1 run=1\n\
             client exits: cpuid=1\n\
             server system calls: reply-receive=1\n"
        );
        assert_eq!(partitions(&Trace::of("init| x\n")), "");
    }

    #[test]
    fn numbers_of_any_size_are_summed_up() {
        let line = |words: &str| format!("{WRITER}trace: {words}\n");
        let most = u64::MAX;
        let totals: String = [1, 2].map(|partition| line(&format!("totals {partition} ticks {most}"))).concat();
        let lost: String = [0, 1].map(|cpu| line(&format!("{cpu} end 0 {most}"))).concat();
        let trace = Trace::of(&(totals + &lost));
        assert!(partitions(&trace).contains(&most.to_string()));
        let mut bytes = Vec::new();
        super::super::chrome(&trace, &mut bytes).unwrap();
        assert!(String::from_utf8(bytes).unwrap().contains(&most.to_string()));
    }
}
