//! Linux guests on a switch, each with a disk of its own, while the disks' service and the switch are killed again and again.

use bulkhead_harness::Backend;

use crate::machine::{has, run, run_packaged};

/// Seconds after which a run is ended; several times what it takes.
const LIMIT: u64 = 1200;
const MIB: u64 = 1 << 20;

/// Two guests exchange streams and work on their disks; a third one that nobody allowed anything hears nothing.
#[test]
fn guests_talk_and_write_while_the_disk_service_and_the_switch_are_killed() {
    let Some(outcome) = run_packaged(LIMIT, "tests/manifests/network-restart.toml", &[]) else {
        return;
    };
    for (guest, peer) in [("red", "10.1.0.2"), ("blue", "10.1.0.1")] {
        let lines = outcome.lines_of(guest);
        let expected = [
            format!("check: disk ok bytes={}", 64 * MIB),
            format!("check: send ok bytes={}", 16 * MIB),
            format!("check: receive ok bytes={}", 16 * MIB),
            format!("check: network ok peer={peer}"),
            "check: all ok".to_owned(),
        ];
        // Bits 0, 1, 3, 5, 7, 11, 15, 16: checksums, MTU, address, segments, merged buffers, status (virtio 1.2, 5.1.3).
        let card = lines.iter().find(|line| line.starts_with("check: card "));
        assert!(card.is_some_and(|line| line.contains("mtu=1500 carrier=1 features=11010101000100011")), "{outcome}");
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
    for (service, times) in [("block", 20), ("switch", 3)] {
        let text = format!("partition {service} is killed");
        let killed = outcome.lines_of("init").iter().filter(|line| line.contains(&text)).count();
        assert_eq!(killed, times, "{outcome}");
    }
    // The last kills fall into the time when the disks are at work.
    let serial = outcome.serial.as_str();
    let at = |text: &str| serial.find(text).unwrap_or_else(|| panic!("nobody says `{text}`:\n{outcome}"));
    let (cut, arrived) =
        (at("partition switch is killed (1 of 3)"), at(&format!("check: receive ok bytes={}", 16 * MIB)));
    assert!(cut < arrived, "no stream was under way when the switch was killed:\n{outcome}");
    let (first, end) = (at("partition block is killed (1 of 20)"), at(&format!("check: disk ok bytes={}", 64 * MIB)));
    assert!(first < end, "no disk was at work when its service was killed:\n{outcome}");
}

/// A guest's disk check and its questions about the disk while the disk's service is killed twenty times.
#[test]
fn a_disk_survives_its_service() {
    let Some(outcome) = run_packaged(LIMIT, "tests/manifests/block-restart.toml", &[]) else {
        return;
    };
    // What an IDE drive has, as the guest sees it; then the kills, and after them the end of the check.
    let outcome = outcome.expect_in_order(&[
        "check: vda sectors=131072 serial=linux/0 queues=1",
        "check: vda blocks=512,512 cache=write back",
        "check: vda discard=0 zeroes=0 segments=256",
        "partition block is killed (1 of 20)",
        "partition block is killed (20 of 20)",
        "check: disk ok sha256=",
        "check: control ok asked=",
        "check: all ok",
    ]);
    let lines = outcome.lines_of("linux");
    assert!(!lines.iter().any(|line| line.contains("I/O error") || line.contains("FAILED")), "{outcome}");
    // While the service was killed, and each time with the same answer.
    let control = lines.iter().find_map(|line| line.strip_prefix("check: control ok asked=")).unwrap_or_default();
    let (asked, said) = control.split_once(' ').unwrap_or_default();
    assert!(asked.parse::<u32>().is_ok_and(|asked| asked > 5), "{outcome}");
    assert!(said.starts_with("model=Generic 1234 serial=BXHD00011 identify="), "{outcome}");
    // The disk's interrupts did not make the guest leave for its monitor, which was signalled for other reasons only.
    let counts = outcome.counts("linux");
    let [requests, signals] = ["doorbell", "host.signals"].map(|name| counts.get(name).copied().unwrap_or(0));
    assert!(requests > 500 && signals < requests / 10, "{requests} requests, {signals} signals:\n{outcome}");
}

#[test]
fn drivers_of_network_cards_pass_frames_on_as_they_were_sent() {
    if !has(Backend::Qemu) {
        return;
    }
    let pairs: Vec<String> = (0..3)
        .flat_map(|from| (0..3).filter(move |to| *to != from).map(move |to| (from, to)))
        .map(|(from, to)| format!("check| card {from} to card {to}: 4000 frames, 3147915 bytes"))
        .collect();
    let pairs: Vec<&str> = pairs.iter().map(String::as_str).collect();
    run("tests/manifests/netcheck.toml", Backend::Qemu, &[])
        .expect_status(0)
        .expect_in_order(&[
            "init| bulkhead: devices are confined to their memory",
            "partition check is started anew (1)",
        ])
        .expect_in_order(&pairs)
        .expect_in_order(&["check| card 0: 200 checksums filled in", "check| card 2: 200 checksums filled in"])
        .expect_in_order(&["check| card 2: 50 trains of segments cut"])
        .expect_in_order(&[
            "card 0: the gateway answers",
            "card 1: the gateway answers",
            "card 2: the gateway answers",
        ]);
}

/// The switch's own card leads outside: for one guest, which sees what that card can do; for the other, nothing does.
#[test]
fn a_guest_reaches_the_outside_by_the_cards_features_and_another_one_does_not() {
    let Some(outcome) = run_packaged(LIMIT, "tests/manifests/uplink.toml", &[]) else {
        return;
    };
    for (guest, check) in [("red", "check: gateway ok gateway=10.0.2.2"), ("blue", "check: silence ok frames=0")] {
        let lines = outcome.lines_of(guest);
        assert!(lines.iter().any(|line| line.contains(check)), "{guest}: {outcome}");
        assert!(lines.iter().any(|line| line.contains("check: all ok")), "{guest}: {outcome}");
    }
    // What it sends to nobody is counted, and told.
    let told = "port blue/net0: 1 frames dropped: length 0, header 0, source 0, tag 0, destination 1, receiver 0";
    assert!(outcome.lines_of("switch").iter().any(|line| line.contains(told)), "{outcome}");
    // Bits 0, 7 and 11: checksums, and segments in both directions. The card has them, too.
    let features = |guest| {
        let lines = outcome.lines_of(guest);
        let features =
            lines.iter().find_map(|line| line.split_once("features=").map(|(_, bits)| bits.trim().to_owned()));
        let features = features.unwrap_or_else(|| panic!("{guest}: {outcome}"));
        [0, 7, 11].map(|bit| features.as_bytes().get(bit) == Some(&b'1'))
    };
    assert_eq!(features("red"), [true, true, true]);
    assert_eq!(features("blue"), [true, true, true]);
}
