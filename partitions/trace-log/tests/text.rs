//! Records come through lines of text as they were; damage is noticed.

use bulkhead_abi::TraceRecord;
use bulkhead_trace_log::text::{Log, Writer};
use proptest::prelude::*;

fn records() -> impl Strategy<Value = Vec<TraceRecord>> {
    let number = || prop_oneof![Just(0), 0u64..300, any::<u64>()];
    let record = (number(), 0u16..64, any::<u16>(), any::<u32>(), [number(), number()])
        .prop_map(|(tsc, kind, partition, thread, arguments)| TraceRecord { tsc, kind, partition, thread, arguments });
    prop::collection::vec(record, 0..100)
}

fn lines(cpu: u32, records: &[TraceRecord], lost: u64) -> Vec<String> {
    let mut writer = Writer::new(cpu);
    let mut lines: Vec<_> = records.iter().filter_map(|record| writer.push(record)).collect();
    writer.lost(lost);
    lines.extend(writer.finish());
    lines
}

proptest! {
    #[test]
    fn records_come_through(first in records(), second in records(), lost in any::<u64>()) {
        let mut log = Log::default();
        prop_assert!(log.push("trace: clock 50000000"));
        // Lines of two CPUs may come mixed.
        let (one, other) = (lines(0, &first, lost), lines(3, &second, 0));
        for index in 0..one.len().max(other.len()) {
            for line in one.get(index).into_iter().chain(other.get(index)) {
                prop_assert!(line.len() < 240, "{}", line);
                prop_assert!(log.push(line));
            }
        }
        prop_assert_eq!(log.hertz, 50_000_000);
        prop_assert_eq!(&log.cpus[&0].records, &first);
        prop_assert_eq!(&log.cpus[&3].records, &second);
        prop_assert_eq!(log.cpus[&0].lost, lost);
        prop_assert!(log.cpus.values().all(|cpu| cpu.is_complete));
    }

    #[test]
    fn damage_is_noticed(records in records(), which in any::<prop::sample::Index>(), place in any::<prop::sample::Index>(), byte in b' '..b'~') {
        let good = lines(1, &records, 7);
        let mut damaged = good.clone();
        let line = which.index(damaged.len());
        let mut bytes = damaged[line].clone().into_bytes();
        let place = place.index(bytes.len());
        prop_assume!(bytes[place] != byte);
        bytes[place] = byte;
        damaged[line] = String::from_utf8(bytes).unwrap();
        // Another count of lost records cannot be noticed.
        prop_assume!(!damaged[line].contains(" end ") || place < damaged[line].rfind(' ').unwrap());
        let mut log = Log::default();
        for line in &damaged {
            log.push(line);
        }
        let cpu = log.cpus.get(&1).cloned().unwrap_or_default();
        prop_assert!(!cpu.is_complete);
        prop_assert!(records.starts_with(&cpu.records));
    }

    #[test]
    fn any_text_is_survived(text in "(trace: )?[0-9a-z ]{0,4}( end)?[ -~]{0,40}") {
        Log::default().push(&text);
    }
}
