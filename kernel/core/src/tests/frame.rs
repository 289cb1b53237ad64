//! Major frames against a ruler with a mark for each tick.

use crate::frame::MajorFrame;
use bulkhead_abi::{Error, MAX_FRAME_SLOTS};
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

fn empty() -> MajorFrame {
    // SAFETY: zero is a frame without slots.
    unsafe { core::mem::zeroed() }
}

proptest! {
    #[test]
    fn open_and_closed_times_are_those_of_the_ruler(
        length in 1u64..200,
        wanted in prop::collection::vec((0u64..220, 0u64..220), 0..12),
        now in 0u64..2_000,
    ) {
        let frame = empty();
        let mut ruler = vec![false; length as usize];
        let (mut slots, mut earliest) = (Vec::new(), 0);
        for (start, end) in wanted {
            let expected = if slots.len() == MAX_FRAME_SLOTS {
                Err(Error::OutOfRange)
            } else if start < earliest || end <= start || end > length {
                Err(Error::BadArgument)
            } else {
                Ok(())
            };
            prop_assert_eq!(frame.add(length, start, end), expected);
            if expected.is_ok() {
                ruler[start as usize..end as usize].fill(true);
                slots.push((start, end));
                earliest = end;
            }
        }
        let (left, opens) = frame.look(now);
        if slots.is_empty() {
            prop_assert_eq!(left, u64::MAX);
            return Ok(());
        }
        let is_open = |tick: u64| ruler[(tick % length) as usize];
        prop_assert_eq!(left != 0, is_open(now));
        if left == 0 {
            prop_assert_eq!(Some(opens), (now..).find(|tick| is_open(*tick)));
        } else {
            let phase = now % length;
            let slot = slots.iter().find(|(start, end)| (*start..*end).contains(&phase)).unwrap();
            prop_assert_eq!(left, slot.1 - phase);
        }
    }

    #[test]
    fn any_time_is_answered(length: u64, start: u64, end: u64, now: u64) {
        let frame = empty();
        let _ = frame.add(length, start, end);
        let (left, opens) = frame.look(now);
        prop_assert!(left != 0 || opens >= now);
    }
}

#[test]
fn a_frame_has_one_length() {
    let frame = empty();
    assert_eq!(frame.add(100, 0, 10), Ok(()));
    assert_eq!(frame.add(200, 20, 30), Err(Error::BadArgument));
    assert_eq!(frame.add(100, 20, 30), Ok(()));
}
