//! Partitions that fail in every way, while the others go on.

use std::{fs, path::Path};

use bulkhead_harness::Backend;

use crate::machine::{Outcome, has, path, run, run_within};

#[test]
fn pauses_double_and_nobody_waits_for_them() {
    if !has(Backend::Qemu) {
        return;
    }
    run("tests/manifests/backoff.toml", Backend::Qemu, &[])
        .expect_status(0)
        .expect_in_order(&[
            "partition crashing pauses for 100 ms before restart 1",
            "partition crashing is started anew (1)",
            "crashing| hello from partition crashing (generation 1)",
            "partition crashing pauses for 200 ms before restart 2",
            "partition crashing pauses for 400 ms before restart 3",
            "partition crashing pauses for 800 ms before restart 4",
            "steady| 1 s since start",
            "partition crashing is started anew (4)",
            "partition crashing stays stopped",
            "init| bulkhead: end: ok",
        ])
        .expect_absent("started anew (5)");
}

#[test]
fn clients_learn_of_a_new_server_before_they_reach_it() {
    if !has(Backend::Qemu) {
        return;
    }
    let two_cpus = on_two_cpus("peers");
    for manifest in ["tests/manifests/peers.toml", &two_cpus] {
        clients_learn(&run(manifest, Backend::Qemu, &[]).expect_status(0));
    }
}

/// A manifest with the server and its clients on a CPU of their own: init stops and starts threads that run meanwhile.
fn on_two_cpus(name: &str) -> String {
    let text = fs::read_to_string(path(&format!("tests/manifests/{name}.toml"))).expect("the manifest is there");
    let text = text.replace("[machine]\n", "[machine]\ncpus = 2\n");
    let text = text.replace("program = \"peers\"\n", "program = \"peers\"\ncpu = 1\n");
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-2.toml"));
    fs::write(&file, text).expect("the directory is writable");
    file.display().to_string()
}

fn clients_learn(outcome: &Outcome) {
    for client in ["served", "waiting", "seldom"] {
        let lines = outcome.lines_of(client);
        for generation in 1..=6 {
            // The client that is killed itself may begin with the server's first life or a later one.
            let text = format!("the server was started anew: generation {generation}");
            let told = lines.iter().filter(|line| line.contains(&text)).count();
            assert!(told <= 1, "{client}, {generation}: {outcome}");
        }
        assert!(lines.iter().any(|line| line.ends_with("the server was started anew: generation 6")), "{outcome}");
    }
    // Both orders: the server ended while it had the call, and before the call.
    let ends = |text| outcome.serial.lines().filter(|line| line.contains(text)).count();
    assert!(ends("had no answer: the server was started anew") > 0, "{outcome}");
    assert!(ends("was not made: the server was started anew") > 0, "{outcome}");
    for line in [
        "init| bulkhead: partition waiting is killed (1 of 1)",
        "server| the peer of channel talk is in generation 1",
        "server| client 4 was started anew: generation 1",
        "waiting| the peer of channel talk is in generation 6",
    ] {
        assert!(outcome.serial.contains(line), "{line}: {outcome}");
    }
}

#[test]
fn clients_of_a_server_that_stays_stopped_get_an_error() {
    if !has(Backend::Qemu) {
        return;
    }
    let outcome = run("tests/manifests/peers-fail.toml", Backend::Qemu, &[]).expect_status(0);
    for client in ["served", "waiting", "seldom"] {
        assert!(outcome.lines_of(client).contains(&"the server has failed"), "{outcome}");
    }
}

/// Every partition of `faults.toml`, in the order in which they commit the fault.
const VICTIMS: [&str; 4] = ["console", "client", "drive", "server"];
/// Faults, what init says that it makes a partition do, and whether it lasts until the watchdog acts.
const FAULTS: [(&str, &str, bool); 6] = [
    ("kill", "is killed", false),
    ("hang", "is made to hang", true),
    ("crash", "is made to crash", false),
    ("loop", "is made to loop", true),
    ("exhaust", "is made to exhaust its memory", false),
    ("flood", "is made to flood its channels", true),
];
/// Times in `faults.toml`, which leave the watchdog its own, and what is enough without.
const SHORTER: [(&str, &str); 5] = [
    ("2100 ms", "1300 ms"),
    ("3900 ms", "1900 ms"),
    ("5900 ms", "2500 ms"),
    ("seconds = \"6\"", "seconds = \"3\""),
    ("seconds = \"4\"", "seconds = \"2\""),
];
/// Longest time between two answers, in milliseconds, while another partition than the server fails: no watchdog has acted by then.
const LONGEST_PAUSE: u64 = 900;

/// `faults.toml` with another fault.
fn with_fault(fault: &str, lasts: bool) -> String {
    let mut text = fs::read_to_string(path("tests/manifests/faults.toml")).expect("the manifest is there");
    for (long, short) in SHORTER.into_iter().filter(|_| !lasts) {
        assert!(text.contains(long), "{long}");
        text = text.replace(long, short);
    }
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("faults-{fault}.toml"));
    fs::write(&file, text.replace("\"kill\"", &format!("\"{fault}\""))).expect("the directory is writable");
    file.display().to_string()
}

#[test]
fn every_partition_fails_in_every_way_and_the_others_go_on() {
    if !has(Backend::Qemu) {
        return;
    }
    for (fault, said, lasts) in FAULTS {
        let outcome = run(&with_fault(fault, lasts), Backend::Qemu, &[]).expect_status(0);
        let serial = &outcome.serial;
        let mut places = Vec::new();
        for victim in VICTIMS {
            // A console that floods its channels overwrites this, too.
            if (fault, victim) != ("flood", "console") {
                let text = format!("partition {victim} {said} (1 of 1)");
                assert!(serial.contains(&text), "{text}: {outcome}");
            }
            let text = format!("partition {victim} is started anew (1)");
            places.push(serial.find(&text).unwrap_or_else(|| panic!("{text}: {outcome}")));
        }
        places.push(serial.len());
        for (index, victim) in VICTIMS.iter().enumerate() {
            // Until the next one was started anew, all others made progress.
            let part = &serial[places[index]..places[index + 1]];
            assert!(*victim == "drive" || part.contains("drive| read back: 4096 KiB"), "{fault}, {victim}: {outcome}");
            assert!(*victim == "client" || part.contains(" answers"), "{fault}, {victim}: {outcome}");
        }
        let last =
            outcome.lines_of("client").into_iter().rfind(|line| line.contains("longest pause")).expect("it ends");
        let pause = last.split("longest pause ").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok());
        assert!(pause.is_some_and(|pause| pause < LONGEST_PAUSE), "{fault}: {outcome}");
        assert!(!last.contains(" 0 new servers"), "{fault}: {outcome}");
        // Memory is used up; so are the slots of who was given a capability to make others of, and of nobody else.
        let exhausted = "client| exhausted: 262144 bytes of heap, 0 new capabilities, then Some(MissingRight)";
        assert_eq!(serial.contains(exhausted), fault == "exhaust", "{outcome}");
        // (The drive may have been stopped while it printed; then its last words are lost.)
        let made = outcome.lines_of("server").iter().find_map(|line| {
            let rest = line.strip_suffix(" new capabilities, then Some(SlotOutOfRange)")?;
            rest.rsplit_once(' ')?.1.parse::<u64>().ok()
        });
        assert_eq!(made.is_some_and(|made| made > 0), fault == "exhaust", "{outcome}");
        outcome
            .expect_in_order(&["server| the peer of channel talk is in generation 1"])
            .expect_in_order(&["partition client has finished: all answers were right"])
            .expect_in_order(&["partition drive has finished: all sectors are as they were written"]);
    }
}

#[test]
#[ignore = "takes some minutes"]
fn a_thousand_crashes() {
    if !has(Backend::Qemu) {
        return;
    }
    let two_cpus = on_two_cpus("thousand-crashes");
    for manifest in ["tests/manifests/thousand-crashes.toml", &two_cpus] {
        let outcome = run_within(300, manifest, Backend::Qemu, &[]).expect_status(0);
        for victim in VICTIMS {
            // One of these lines may have been lost with a console that crashed.
            let texts = [
                format!("partition {victim} is made to crash (250 of 250)"),
                format!("partition {victim} is started anew (250)"),
                format!("{victim}| generation 250"),
            ];
            assert!(texts.iter().any(|text| outcome.serial.contains(text)), "{victim}: {outcome}");
        }
        outcome
            .expect_in_order(&["partition client has finished: all answers were right"])
            .expect_in_order(&["partition drive has finished: all sectors are as they were written"]);
    }
}

#[test]
fn monitors_of_guests_fail_and_other_guests_go_on() {
    if !has(Backend::Bochs) {
        return;
    }
    let outcome = run("tests/manifests/guest-faults.toml", Backend::Bochs, &[])
        .expect_status(0)
        .expect_in_order(&["partition crashing is made to crash (3 of 3)", "partition crashing is started anew (3)"])
        .expect_in_order(&["partition exhausting is made to exhaust its memory", "exhausting is started anew (1)"])
        .expect_in_order(&["partition looping is made to loop", "hostile| hostile: alive", "hostile| guest: off"])
        .expect_in_order(&["partition flooding is made to flood its channels", "hostile| hostile: alive"])
        .expect_absent("PANIC");
    assert!(outcome.lines_of("polite").contains(&"guest: off"), "{outcome}");
    assert!(outcome.lines_of("steady").contains(&"3 s since start"), "{outcome}");
}

/// The neighbour is told each second of its life, whatever the guests' monitors do.
#[test]
fn a_monitor_that_loops_is_started_anew_and_those_of_busy_and_idle_guests_are_not() {
    if !has(Backend::Bochs) {
        return;
    }
    let outcome = run("tests/manifests/guest-watchdog.toml", Backend::Bochs, &[])
        .expect_status(0)
        .expect_in_order(&[
            "init| bulkhead: partition looping is made to loop (1 of 2)",
            "init| bulkhead: partition looping shows no sign of life",
            "init| bulkhead: partition looping is started anew (1)",
            "looping| guest: long mode, command line \"spin\"",
            "init| bulkhead: partition looping is made to loop (2 of 2)",
            "init| bulkhead: partition looping is started anew (2)",
            "looping| guest: long mode, command line \"spin\"",
        ])
        .expect_in_order(&["steady| 1 s since start", "steady| 2 s since start", "steady| 3 s since start"])
        .expect_in_order(&["idle| idle: for 2000 million ticks", "idle| idle: over", "idle| guest: off"])
        .expect_absent("looping is started anew (3)");
    for line in ["partition busy shows no", "of partition busy shows no", "idle shows no", "PANIC"] {
        assert!(!outcome.serial.contains(line), "{line}: {outcome}");
    }
    assert!(outcome.lines_of("busy").contains(&"guest: round 2"), "{outcome}");
}

#[test]
fn a_console_that_hangs_at_the_end_is_started_anew_and_switches_the_machine_off() {
    if !has(Backend::Qemu) {
        return;
    }
    run("tests/manifests/end-without-console.toml", Backend::Qemu, &[]).expect_status(0).expect_in_order(&[
        "init| bulkhead: partition console is made to hang (1 of 1)",
        "init| bulkhead: end: ok",
        "init| bulkhead: partition console is started anew (1)",
    ]);
}

/// Bochs counts instructions, so that the same happens each time.
#[test]
fn signals_to_init_cost_the_others_no_more_than_the_budget_of_who_sends_them() {
    if !has(Backend::Bochs) {
        return;
    }
    let outcome = run("tests/manifests/flood-init.toml", Backend::Bochs, &[]).expect_status(0).expect_in_order(&[
        "partition flooder is made to flood its channels (1 of 1)",
        "1250 ms",
        "all answers were right",
    ]);
    let lines = outcome.lines_of("client");
    let answers = |time: &str| {
        let line = lines.iter().find_map(|line| line.strip_prefix(time)?.strip_suffix(" answers")?.parse::<u64>().ok());
        line.unwrap_or_else(|| panic!("no line at {time}: {outcome}"))
    };
    let (before, with_flood) = (answers("750 ms: ") - answers("250 ms: "), answers("1750 ms: ") - answers("1250 ms: "));
    // A tenth for the flood, and a little for init.
    assert!(with_flood * 100 > before * 85, "{before} answers in half a second, then {with_flood}:\n{outcome}");
}
