//! The built-in guests: the good ones reach their end, the bad ones harm only themselves.

use std::collections::BTreeMap;

use bulkhead_harness::Backend;

use crate::machine::{has, run, run_within};

const HELLO: [&str; 5] = [
    "hello| guest: protected mode",
    "hello| guest: long mode, command line \"hello\"",
    "hello| guest: hypervisor bit 1",
    "hello| guest: hypervisor \"BulkheadBulk\"",
    "hello| guest: off",
];
const REAL: [&str; 2] = ["real| guest: real mode", "real| guest: off"];
/// Seconds for what takes a minute on a host that has nothing else to do.
const LONG: u64 = 400;

#[test]
fn guests_run_identically_each_time() {
    if !has(Backend::Bochs) {
        return;
    }
    let first = run("partitions/guests.toml", Backend::Bochs, &[])
        .expect_status(0)
        .expect_in_order(&HELLO)
        .expect_in_order(&REAL);
    let second = run("partitions/guests.toml", Backend::Bochs, &[]).expect_status(0);
    assert_eq!(first.serial, second.serial);
}

#[test]
fn guests_run_on_an_older_processor() {
    if !has(Backend::Bochs) {
        return;
    }
    run("partitions/guests.toml", Backend::Bochs, &["--cpu", "corei7_sandy_bridge_2600k"])
        .expect_status(0)
        .expect_in_order(&HELLO)
        .expect_in_order(&REAL);
}

/// Neither extended page tables nor a preemption timer.
#[test]
fn guests_run_on_one_of_the_first_processors_with_vmx() {
    if !has(Backend::Bochs) {
        return;
    }
    run("partitions/guests.toml", Backend::Bochs, &["--cpu", "core2_penryn_t9600"])
        .expect_status(0)
        .expect_in_order(&HELLO)
        .expect_in_order(&REAL);
}

/// One guest's list counts for that guest alone.
#[test]
fn registers_do_what_a_guest_s_list_says() {
    if !has(Backend::Bochs) {
        return;
    }
    let outcome = run("tests/manifests/msrs.toml", Backend::Bochs, &[]).expect_status(0);
    let of = |guest| {
        let lines = outcome.lines_of(guest).into_iter().filter_map(|line| line.strip_prefix("msr "));
        // By number: what the first read gave, what was written, what the second read gave. The last line of each is whole.
        let fields =
            lines.map(|line| line.split([':', ',']).map(|field| field.trim().rsplit(' ').next().unwrap_or("")));
        let fields = fields.map(|fields| fields.collect::<Vec<_>>()).map(|fields| (fields[0], fields[1..].to_vec()));
        fields.collect::<BTreeMap<_, _>>()
    };
    let (plain, listed) = (of("plain"), of("listed"));
    let numbers = ["0x1a0", "0xce", "0x3b", "0x1b0", "0x611", "0x200"];
    let [p1a0, pce, p3b, p1b0, p611, p200] = numbers.map(|number| plain[number].as_slice());
    let [l1a0, lce, l3b, l1b0, l611, l200] = numbers.map(|number| listed[number].as_slice());
    let refused = "#GP";
    // The default: known registers are there and change when they are written, the others fault.
    for known in [p1a0, p3b, p200] {
        assert!(known[0] != refused && known[1] != refused && known[1] == known[2], "{outcome}");
    }
    assert!(pce[0] != refused && pce[1] == refused && pce[2] == pce[0], "{outcome}");
    assert_eq!((p1b0, p611), (&[refused; 3][..], &[refused; 3][..]), "{outcome}");
    // The list: read-only, away, a constant whatever is written, two constants for registers that are not there, writes without effect.
    assert_eq!(l1a0, [p1a0[0], refused, p1a0[0]], "{outcome}");
    assert_eq!(lce, [refused; 3], "{outcome}");
    assert_eq!(l3b, ["0xfedcba987654", "0xfedcba987655", "0xfedcba987654"], "{outcome}");
    assert_eq!(l1b0, ["0x6", "0x7", "0x6"], "{outcome}");
    assert_eq!(l611, ["0x0", refused, "0x0"], "{outcome}");
    assert_eq!(l200, [p200[0], p200[1], p200[0]], "{outcome}");
}

/// The guest's processors see each page that is put before them, and none after it was taken away.
#[test]
fn unmapped_memory_is_gone_for_every_processor() {
    if !has(Backend::Bochs) {
        return;
    }
    // The second has shadow tables, whose entries are made anew after each removal: that takes a minute.
    for model in ["corei7_skylake_x", "core2_penryn_t9600"] {
        run_within(LONG, "tests/manifests/shootdown.toml", Backend::Bochs, &["--cpu", model])
            .expect_status(0)
            .expect_in_order(&["touched-vmm| shootdown: 5000 removals, old content was read 0 times, 0 late writes"]);
    }
}

#[test]
fn hostile_guest_harms_only_itself() {
    harms_only_itself("tests/manifests/hostile.toml");
}

#[test]
fn hostile_guest_with_shadow_paging_harms_only_itself() {
    harms_only_itself("tests/manifests/hostile-shadow.toml");
}

#[test]
fn guests_that_rampage_for_a_hundred_million_instructions_harm_only_themselves() {
    if !has(Backend::Bochs) {
        return;
    }
    let outcome = run("tests/manifests/rampage.toml", Backend::Bochs, &[])
        .expect_status(0)
        .expect_absent("PANIC")
        .expect_absent("thread 0:");
    for guest in ["first", "second"] {
        let deeds = outcome.lines_of(guest).iter().find_map(|line| line.split_once("rampage: ")).map(|(_, rest)| rest);
        let (deeds, rest) = deeds.and_then(|rest| rest.split_once(' ')).unwrap_or_else(|| panic!("{outcome}"));
        assert!(deeds.parse::<u64>().expect("a number") > 1000 && rest.ends_with("2 virtio devices"), "{outcome}");
    }
    assert!(outcome.lines_of("polite").contains(&"guest: off"), "{outcome}");
    assert!(outcome.lines_of("steady").contains(&"2 s since start"), "{outcome}");
}

fn harms_only_itself(manifest: &str) {
    if !has(Backend::Bochs) {
        return;
    }
    let outcome = run(manifest, Backend::Bochs, &[])
        .expect_status(0)
        .expect_in_order(&[
            "hostile| hostile: 65536 port reads",
            "hostile| hostile: CPUID done",
            "hostile| hostile: alive",
            "hostile| guest: off",
        ])
        .expect_absent("PANIC")
        .expect_absent("thread 0:");
    assert!(outcome.lines_of("polite").contains(&"guest: off"), "{outcome}");
    assert!(outcome.lines_of("steady").contains(&"2 s since start"), "{outcome}");
}

#[test]
fn guest_that_fails_fails_the_run() {
    if !has(Backend::Bochs) {
        return;
    }
    run("tests/manifests/guest-fails.toml", Backend::Bochs, &[]).expect_status(1).expect_in_order(&[
        "fine| guest: off",
        "init| bulkhead: partition crashing is started anew (1)",
        "crashing| guest: long mode, command line \"crash\"",
        "init| bulkhead: partition crashing stays stopped",
        "init| bulkhead: partition failing has failed: the guest ended by its exit port with an error (code 3)",
        "init| bulkhead: end: failed: partition failing",
    ]);
}
