//! Linux guests on a switch, each with a disk of its own, while the disks' service is killed again and again.

use bulkhead_harness::Backend;

use crate::machine::{has, run_within};

/// Seconds after which a run is ended; several times what it takes.
const LIMIT: u64 = 1200;
const MIB: u64 = 1 << 20;

/// Two guests exchange streams and work on their disks; a third one that nobody allowed anything hears nothing.
#[test]
fn guests_talk_and_write_while_the_disk_service_is_killed() {
    if !has(Backend::Bochs) {
        return;
    }
    let outcome = run_within(LIMIT, "tests/manifests/network-restart.toml", Backend::Bochs, &[]);
    if outcome.status == Some(2) && outcome.messages.contains("apt-get download") {
        eprintln!("skipped: {}", outcome.messages);
        return;
    }
    let outcome = outcome.expect_status(0);
    for (guest, peer) in [("red", "10.1.0.2"), ("blue", "10.1.0.1")] {
        let lines = outcome.lines_of(guest);
        let expected = [
            format!("check: disk ok bytes={}", 64 * MIB),
            format!("check: send ok bytes={}", 16 * MIB),
            format!("check: receive ok bytes={}", 16 * MIB),
            format!("check: network ok peer={peer}"),
            "check: all ok".to_owned(),
        ];
        for line in &expected {
            assert!(lines.contains(&line.as_str()), "{guest} does not say `{line}`:\n{outcome}");
        }
        // What Linux says of a disk that answers with an error, or of a stream that breaks.
        for text in ["FAILED", "I/O error", "Buffer I/O", "reset"] {
            assert!(!lines.iter().any(|line| line.contains(text)), "{guest} says `{text}`:\n{outcome}");
        }
    }
    let green = outcome.lines_of("green");
    assert!(green.contains(&"check: silence ok frames=0"), "{outcome}");
    let killed = outcome.lines_of("init").iter().filter(|line| line.contains("partition block is killed")).count();
    assert_eq!(killed, 20, "{outcome}");
    // The last kills fall into the time when the disks are at work.
    let serial = outcome.serial.as_str();
    let at = |text: &str| serial.find(text).unwrap_or_else(|| panic!("nobody says `{text}`:\n{outcome}"));
    let (first, end) = (at("partition block is killed (1 of 20)"), at(&format!("check: disk ok bytes={}", 64 * MIB)));
    assert!(first < end, "no disk was at work when its service was killed:\n{outcome}");
}

/// A guest's disk check while the disk's service is killed twenty times.
#[test]
fn a_disk_survives_its_service() {
    if !has(Backend::Bochs) {
        return;
    }
    let outcome = run_within(LIMIT, "tests/manifests/block-restart.toml", Backend::Bochs, &[]);
    if outcome.status == Some(2) && outcome.messages.contains("apt-get download") {
        eprintln!("skipped: {}", outcome.messages);
        return;
    }
    let outcome = outcome.expect_status(0);
    let lines = outcome.lines_of("linux");
    assert!(lines.iter().any(|line| line.starts_with("check: disk ok sha256=")), "{outcome}");
    assert!(lines.contains(&"check: all ok"), "{outcome}");
    assert!(!lines.iter().any(|line| line.contains("I/O error")), "{outcome}");
}
