//! Random commands, against a model of the disk.

mod common;
use common::driving::*;
use common::*;

use bulkhead_driver::{Command, CommandError, Completion, Drive, PhysicalSegment};
use proptest::prelude::*;

/// Segments that a controller takes: even, of any size.
fn pieces() -> impl Strategy<Value = Vec<PhysicalSegment>> {
    let piece = (0u64..0x10_0000, prop_oneof![Just(4096u64), Just(512), (1u64..5000).prop_map(|half| half * 2)])
        .prop_map(|(address, length)| segment(0x1000_0000 + address * 2, length));
    proptest::collection::vec(piece, 1..130)
}

/// A command under way: its range, and what has to be read.
type Flying = (u64, u32, Option<Vec<u8>>);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// What is said to fit is taken, and arrives.
    #[test]
    fn data_arrive(pieces in pieces(), large: bool, simple: bool, sector in 0u64..100, seed: u8) {
        let logical = if large { 4096 } else { 512 };
        let bus = Bus::new(logical as usize, SECTORS);
        let mut drive = if simple { start_simple(&bus) } else { start(&bus) };
        let bytes = drive.fitting(pieces.iter().copied(), 256 << 10);
        let sum: u64 = pieces.iter().take(120).map(|piece| piece.length).sum();
        prop_assert_eq!(bytes, sum.min(256 << 10) / logical * logical);
        prop_assume!(bytes > 0);
        let mut left = bytes;
        let cut: Vec<_> = pieces.iter().map(|piece| {
            let length = piece.length.min(left);
            left -= length;
            segment(piece.address, length)
        }).filter(|piece| piece.length != 0).collect();
        for (index, piece) in cut.iter().enumerate() {
            for offset in 0..piece.length {
                bus.0.borrow_mut().poke(piece.address + offset, seed ^ (index as u64 * 31 + offset) as u8);
            }
        }
        // Pieces may overlap: what the memory holds in the end is what is written.
        let places = || cut.iter().flat_map(|piece| piece.address..piece.address + piece.length);
        let expected: Vec<u8> = places().map(|address| bus.0.borrow().peek(address)).collect();
        let (first_sector, sectors) = (sector * logical / 512, (bytes / 512) as u32);
        drive.submit(0, Command::Write { first_sector, sectors }, cut.iter().copied()).unwrap();
        prop_assert_eq!(interrupt(&mut drive, &bus), [(0, Ok(()))]);
        drive.submit(0, Command::Read { first_sector, sectors }, [segment(0x8000_0002, bytes)]).unwrap();
        prop_assert_eq!(interrupt(&mut drive, &bus), [(0, Ok(()))]);
        for (offset, byte) in expected.into_iter().enumerate() {
            prop_assert_eq!(bus.0.borrow().peek(0x8000_0002 + offset as u64), byte);
        }
    }

    /// Many commands in flight, done in any order, some of them failing, against a model of the disk: every command ends once, and
    /// fails only if it touches a sector that is bad.
    #[test]
    fn the_disk_is_what_was_written(
        steps in proptest::collection::vec((0u16..32, 0u64..32, 1u32..5, 0u8..6, any::<u8>(), any::<usize>()), 1..80),
        bad in proptest::collection::vec(0u64..36, 0..2))
    {
        let bus = Bus::new(512, SECTORS);
        let mut drive = start(&bus);
        bus.0.borrow_mut().at_once = false;
        bus.0.borrow_mut().bad.extend(bad.iter().copied());
        let mut model = vec![0u8; 40];
        let mut flying: Vec<Option<Flying>> = vec![None; 32];
        let buffer = |tag: u16| 0x200_0000 + u64::from(tag) * 0x1_0000;
        let is_bad = |first: u64, count: u32| bad.iter().any(|sector| (first..first + u64::from(count)).contains(sector));
        let end = |flying: &mut Vec<Option<Flying>>, ends: Vec<(u16, Completion)>| {
            for (tag, end) in ends {
                let (first, count, expected) = flying[usize::from(tag)].take().expect("a command in flight");
                let fails = count > 0 && is_bad(first, count);
                prop_assert_eq!(end, if fails { Err(CommandError::Drive) } else { Ok(()) });
                for (index, byte) in expected.into_iter().flatten().enumerate().filter(|_| !fails) {
                    prop_assert_eq!(bus.0.borrow().peek(buffer(tag) + 512 * index as u64), byte);
                }
            }
            Ok(())
        };
        for (tag, first_sector, sectors, kind, value, pick) in steps {
            let waiting = bus.0.borrow().waiting();
            if waiting > 0 && pick % 3 != 0 {
                bus.0.borrow_mut().execute(pick % waiting);
            }
            let ends = interrupt(&mut drive, &bus);
            end(&mut flying, ends)?;
            if pick % 5 == 0 {
                let now = bus.0.borrow().now;
                for _ in 0..20 {
                    let mut ends = Vec::new();
                    if drive.deadline().is_some_and(|deadline| deadline < now + 1000) {
                        bus.0.borrow_mut().now += 2;
                        drive.on_time(&mut |tag, completion| ends.push((tag, completion)));
                    }
                    end(&mut flying, ends)?;
                }
            }
            let range = first_sector..first_sector + u64::from(sectors);
            let overlaps = flying.iter().flatten().any(|(first, count, _)| {
                *first < range.end && range.start < first + u64::from(*count)
            });
            let flush = kind == 5;
            if flying[usize::from(tag)].is_some() || overlaps && !flush {
                continue;
            }
            let places = first_sector as usize..range.end as usize;
            let data = [segment(buffer(tag), 512 * u64::from(sectors))];
            let command = match kind {
                0..2 => Command::Read { first_sector, sectors },
                2..4 => {
                    for offset in 0..512 * u64::from(sectors) {
                        bus.0.borrow_mut().poke(buffer(tag) + offset, value);
                    }
                    Command::Write { first_sector, sectors }
                }
                4 => Command::Discard { first_sector, sectors },
                _ => Command::Flush,
            };
            // What touches a bad sector leaves the others unknown: such ranges are only read.
            if is_bad(first_sector, sectors) && kind >= 2 {
                continue;
            }
            let data = if kind < 4 { &data[..] } else { &[] };
            if drive.submit(tag, command, data.iter().copied()).is_err() {
                continue;
            }
            let expected = (kind < 2).then(|| model[places.clone()].to_vec());
            match kind {
                2..4 => model[places].fill(value),
                4 => model[places].fill(0),
                _ => {}
            }
            flying[usize::from(tag)] = Some(if flush { (0, 0, None) } else { (first_sector, sectors, expected) });
        }
        bus.0.borrow_mut().at_once = true;
        let mut rounds = 0;
        while flying.iter().any(Option::is_some) {
            if bus.0.borrow().waiting() > 0 {
                bus.0.borrow_mut().execute(0);
            }
            let mut ends = interrupt(&mut drive, &bus);
            if ends.is_empty() && bus.0.borrow().waiting() == 0 {
                ends = pass_time(&mut drive, &bus, 1);
            }
            end(&mut flying, ends)?;
            rounds += 1;
            prop_assert!(rounds < 1000);
        }
        for (sector, byte) in model.into_iter().enumerate() {
            prop_assert_eq!(bus.0.borrow().disk.get(&(sector as u64)).map_or(0, |data| data[511]), byte);
        }
    }
}
