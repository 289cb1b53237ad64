//! Guests' channels: between two Linux guests, and between one and a native partition; and what a guest's program learns when the other
//! end fails. And a channel that leads one way.

use bulkhead_harness::Backend;

use crate::machine::{has, run, run_packaged};

/// Seconds after which a run is ended; several times what it takes.
const LIMIT: u64 = 600;

/// What a guest sent and received over a channel, by hash.
fn hashes<'l>(lines: &[&'l str], channel: &str) -> Option<(&'l str, &'l str)> {
    let beginning = format!("check: channel ok name={channel} bytes=1048576 sent=");
    lines.iter().find_map(|line| line.strip_prefix(&beginning)?.split_once(" received="))
}

/// Each guest finds its channels by name, and what one end says is what the other hears. One of them lacks features of its processors.
#[test]
fn guests_talk_over_channels() {
    let Some(outcome) = run_packaged(LIMIT, "tests/manifests/guest-channel.toml", &[]) else {
        return;
    };
    let (red, blue) = (outcome.lines_of("red"), outcome.lines_of("blue"));
    for (lines, channel, port) in [(&red, "talk", 0), (&red, "echo", 1), (&blue, "talk", 0)] {
        let line = format!("check: channel {channel} is /dev/vport0p{port}");
        assert!(lines.contains(&line.as_str()), "nobody says `{line}`:\n{outcome}");
    }
    let (from_red, to_red) = hashes(&red, "talk").unwrap_or_else(|| panic!("red did not talk:\n{outcome}"));
    let from_blue = hashes(&blue, "talk");
    assert_eq!(from_blue, Some((to_red, from_red)), "{outcome}");
    assert_ne!(from_red, to_red, "{outcome}");
    assert!(hashes(&red, "echo").is_some_and(|(sent, received)| sent == received && sent != from_red), "{outcome}");
    for feature in ["aes", "rdrand", "avx2"] {
        for (lines, has) in [(&red, "has flag"), (&blue, "has no flag")] {
            let line = format!("check: cpuinfo {has} {feature}");
            assert!(lines.contains(&line.as_str()), "nobody says `{line}`:\n{outcome}");
        }
    }
    for lines in [red, blue] {
        assert!(lines.contains(&"check: all ok"), "{outcome}");
        assert!(!lines.iter().any(|line| line.contains("FAILED")), "{outcome}");
    }
}

/// A program in a guest reads the end of the stream when the other end fails, a native partition or a guest's monitor; what it writes then
/// waits for the next life, which a native one answers.
#[test]
fn a_guest_learns_that_the_other_end_failed() {
    let Some(outcome) = run_packaged(LIMIT, "tests/manifests/channel-ends.toml", &[]) else {
        return;
    };
    assert!(outcome.lines_of("watching").contains(&"check: channel last leads to nobody"), "{outcome}");
    outcome.expect_in_order(&[
        "init| bulkhead: partition hello is made to crash",
        "watching| check: channel echo has ended",
        "init| bulkhead: partition hello is started anew",
        "init| bulkhead: partition hello is made to crash",
        "watching| check: channel echo has ended",
        "init| bulkhead: partition hello is started anew",
        "watching| check: ends ok name=echo ends=2 answers=3",
        "init| bulkhead: partition ending is killed",
        "watching| check: channel pair has ended",
        "init| bulkhead: partition ending is killed",
        "watching| check: channel pair has ended",
        "watching| check: ends ok name=pair ends=2 answers=0",
        "watching| check: all ok",
        "init| bulkhead: end: ok",
    ]);
}

/// Whoever receives over a one-way channel can neither signal nor write back: the kernel sees to it. The second manifest includes the
/// first.
#[test]
fn one_way_channels_lead_one_way() {
    if !has(Backend::Qemu) {
        return;
    }
    for (manifest, processors) in [("one-way", "1 processors"), ("one-way-2cpus", "2 processors")] {
        run(&format!("tests/manifests/{manifest}.toml"), Backend::Qemu, &[])
            .expect_status(0)
            .expect_in_order(&[processors, " from low", "high| signal back: Err(SlotEmpty)", "high| write back"])
            // What two CPUs say has no order.
            .expect_in_order(&[
                "init| bulkhead: partition high thread 0: page fault (vector 14), error code 0x7",
                "init| bulkhead: partition high stays stopped",
                "init| bulkhead: partition low has finished",
                "init| bulkhead: end: ok",
            ])
            .expect_absent("written back");
    }
}
