//! Whatever the records are: slices of a CPU follow each other without gaps, guests' slices lie in those of their threads, and counts come
//! through lines of text as they are.

use bulkhead_abi::TraceRecord;
use bulkhead_trace_log::timeline::{Activity, Slice};
use bulkhead_trace_log::totals::{Count, Totals};
use proptest::prelude::*;

fn records() -> impl Strategy<Value = Vec<TraceRecord>> {
    let record = (0u64..1000, 0u16..10, 0u16..4, (0u64..8, prop_oneof![0u64..4, 0x100u64..0x102]));
    prop::collection::vec(record, 1..200).prop_map(|steps| {
        let mut tsc = 0;
        let record = |(step, kind, partition, (first, second)): (u64, u16, u16, (u64, u64))| {
            tsc += step;
            TraceRecord { tsc, kind, partition, thread: u32::from(partition), arguments: [first, second] }
        };
        steps.into_iter().map(record).collect()
    })
}

proptest! {
    #[test]
    fn no_time_is_missing_or_told_twice(records in records()) {
        let (mut totals, mut slices) = (Totals::default(), Vec::new());
        for record in &records {
            totals.push(5, record, |slice| slices.push(slice));
        }
        totals.finish(|_, slice| slices.push(slice));
        let (first, last) = (records[0].tsc, records[records.len() - 1].tsc);
        let (guests, threads): (Vec<Slice>, Vec<Slice>) =
            slices.into_iter().partition(|slice| slice.activity == Activity::Guest);
        prop_assert_eq!(threads.first().map(|slice| slice.start), Some(first));
        prop_assert_eq!(threads.last().map(|slice| slice.end), Some(last));
        prop_assert!(threads.windows(2).all(|pair| pair[0].end == pair[1].start));
        for guest in &guests {
            let holds = |slice: &&Slice| slice.start <= guest.start && guest.end <= slice.end && slice.thread == guest.thread;
            prop_assert!(threads.iter().any(|slice| holds(&slice)), "{:?}", guest);
        }
        let sum = |wanted| totals.partitions.values().filter_map(|counts| counts.get(&wanted)).sum::<u64>();
        prop_assert_eq!(sum(Count::Ticks), last - first);
        prop_assert!(sum(Count::GuestTicks) <= last - first);

        let mut read = Totals::default();
        for line in totals.lines() {
            prop_assert!(read.take(&line));
        }
        prop_assert_eq!((read.partitions, read.lost), (totals.partitions, totals.lost));
    }

    #[test]
    fn any_line_is_survived(line in "(trace: )?(totals )?[a-z0-9.]{0,12} ?[ -~]{0,20}") {
        Totals::default().take(&line);
    }
}
