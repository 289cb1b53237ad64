//! What a partition can observe in its windows does not depend on its neighbours; and its windows begin in time.
//!
//! Under Bochs every instruction is a tick of the time-stamp counter, so the hash of all observations is the same bit for bit, or
//! something got through.

use std::{fs, path::Path};

use bulkhead_harness::Backend;

use crate::machine::{has, path, run};

/// Where the manifest's neighbour begins.
const NEIGHBOUR: &str = "# The neighbour:";

/// Ticks by which 99.9 % of the windows may begin late.
const LATEST: u64 = 2_000;

/// What stands beside the observer.
enum Neighbour {
    /// The program `neighbour`, with further keys.
    Native(&'static str, &'static str),
    /// A built-in guest by its command line, with further keys.
    Guest(&'static str, &'static str),
}

use Neighbour::{Guest, Native};

/// Those that are tried at each test; of every kind one, and those that once were noticed.
const SOME: [Neighbour; 5] = [
    Native("idle", ""),
    Native("crash", "restart = \"always\""),
    Native("interrupts", "devices = [\"rtc\"]"),
    Guest("storm cpuid", ""),
    Guest("storm pages", "paging = \"shadow\""),
];

/// The others.
const MORE: [Neighbour; 18] = [
    Native("compute", ""),
    Native("yield", ""),
    Native("calls", ""),
    Native("signals", ""),
    Native("timers", ""),
    Native("memory", "memory = \"8 MiB\""),
    Native("refused", ""),
    Native("ports", "devices = [\"rtc\"]"),
    Guest("storm ports", ""),
    Guest("storm registers", ""),
    Guest("storm msrs", ""),
    Guest("storm interrupts", ""),
    Guest("storm halts", ""),
    Guest("storm pages", ""),
    Guest("hostile 7", ""),
    Guest("hostile 8", "paging = \"shadow\""),
    Guest("crash", "restart = \"always\""),
    Guest("spin", ""),
];

impl Neighbour {
    fn table(&self) -> String {
        match self {
            Native(behaviour, keys) => format!(
                "[partition.neighbour]\nprogram = \"neighbour\"\nsettings = {{ behaviour = \"{behaviour}\" }}\n{keys}\n\n\
                 [endpoint.calls]\nserver = \"other\"\nclients = [\"neighbour\"]\nworst_case = \"50 us\"\n"
            ),
            Guest(line, keys) => format!(
                "[guest.neighbour]\nmemory = \"48 MiB\"\nkernel = \"builtin:guests\"\ncommand_line = \"{line}\"\n\
                 must_finish = false\n{keys}\n\n[endpoint.calls]\nserver = \"other\"\nclients = [\"source\"]\nworst_case = \"50 us\"\n"
            ),
        }
    }

    fn name(&self) -> String {
        let (Native(what, keys) | Guest(what, keys)) = self;
        format!("{what} {keys}")
    }
}

/// Hash of what was observed beside a neighbour, and by how much 99.9 % of the windows began late at most.
/// The manifest is written to a file of this name.
fn observe(file: &str, neighbour: &Neighbour) -> (String, u64) {
    let text = fs::read_to_string(path("tests/manifests/interference.toml")).expect("the manifest");
    let (common, _) = text.split_once(NEIGHBOUR).expect("the neighbour's place");
    observe_in(file, &format!("{common}{}", neighbour.table()))
}

/// The same with a whole manifest, written to a file of this name.
fn observe_in(file: &str, text: &str) -> (String, u64) {
    let manifest = Path::new(env!("CARGO_TARGET_TMPDIR")).join(file);
    fs::write(&manifest, text).expect("to write a manifest");
    let outcome = run(manifest.to_str().expect("a name"), Backend::Bochs, &[]).expect_status(0);
    // A line that its window's end cuts is shown as far as it goes, and then whole.
    let lines = outcome.lines_of("observer");
    let find = |after: &str| {
        let rest = lines.iter().rev().find_map(|line| line.split_once(after)).map(|(_, rest)| rest);
        rest.unwrap_or_else(|| panic!("{outcome}"))
    };
    let (latest, _) = find(" median, ").split_once(' ').expect("a number");
    (find("200 windows, hash ").to_owned(), latest.parse().expect("a number"))
}

fn nobody_is_noticed(file: &str, neighbours: &[&Neighbour]) {
    if !has(Backend::Bochs) {
        return;
    }
    let observed: Vec<_> = neighbours.iter().map(|neighbour| (neighbour.name(), observe(file, neighbour))).collect();
    for (name, (hash, latest)) in &observed {
        eprintln!("{name}: windows at most {latest} late, hash {hash}");
    }
    for (name, (hash, latest)) in &observed {
        assert_eq!(hash, &observed[0].1.0, "beside {name} something else was observed");
        assert!(*latest <= LATEST, "beside {name} windows began {latest} ticks late");
    }
}

#[test]
fn neighbours_are_not_noticed_and_windows_begin_in_time() {
    nobody_is_noticed("interference.toml", &SOME.iter().collect::<Vec<_>>());
}

#[test]
#[ignore = "minutes of emulation"]
fn none_of_all_neighbours_is_noticed() {
    nobody_is_noticed("interference-all.toml", &SOME.iter().chain(&MORE).collect::<Vec<_>>());
}

/// What the server of a manifest says of its calls and signals.
fn served(manifest: &str, after: &str) -> Option<u64> {
    if !has(Backend::Bochs) {
        return None;
    }
    let outcome = run(manifest, Backend::Bochs, &[]).expect_status(0);
    let lines = outcome.lines_of("server");
    let rest = lines.iter().rev().find_map(|line| line.split_once(after)).map(|(_, rest)| rest);
    let number = rest.and_then(|rest| rest.split_once(' ')).and_then(|(number, _)| number.parse().ok());
    Some(number.unwrap_or_else(|| panic!("{outcome}")))
}

/// The time until a window begins grows with the threads that are ready when the one before it ends, and not by more than is said.
#[test]
fn each_ready_neighbour_delays_a_window_by_a_bounded_time() {
    const NEIGHBOURS: u64 = 12;
    if !has(Backend::Bochs) {
        return;
    }
    let names: Vec<_> = (0..NEIGHBOURS).map(|number| format!("neighbour{number}")).collect();
    let tables: String = names
        .iter()
        .map(|name| {
            format!("[partition.{name}]\nprogram = \"neighbour\"\nsettings = {{ behaviour = \"compute\" }}\n\n")
        })
        .collect();
    let text = fs::read_to_string(path("tests/manifests/interference.toml")).expect("the manifest");
    let (common, _) = text.split_once("[partition.other]").expect("the neighbours' place");
    let before = common.replace("start = \"3 ms\", length = \"4 ms\"", "start = \"1 ms\", length = \"1 ms\"");
    assert_ne!(before, common);
    let common = before.replace("[\"neighbour\", \"other\"]", &format!("{names:?}"));
    let (_, latest) = observe_in("many-neighbours.toml", &format!("{common}{tables}"));
    eprintln!("{NEIGHBOURS} ready neighbours: windows at most {latest} late");
    assert!(latest <= LATEST + (NEIGHBOURS - 4) * 400, "{latest}");
    // They are there.
    assert!(latest > LATEST, "{latest}");
}

#[test]
fn calls_begin_only_while_there_is_time_for_them() {
    if let Some(left) = served("tests/manifests/bounded-calls.toml", "none with less than ") {
        // 100 us of Bochs' 50 MHz, less what it takes to get to the server; and one that fits begins.
        let worst_case = 5_000;
        assert!((worst_case - 500..worst_case + 2_000).contains(&left), "{left} ticks were left");
    }
}

#[test]
fn calls_that_had_to_wait_begin_only_while_there_is_time_for_them() {
    if let Some(left) = served("tests/manifests/queued-calls.toml", "none with less than ") {
        // 300 us, less what it takes to get to the server, and a turn of the urgent client's in between.
        assert!(left >= 15_000 - 4_000, "{left} ticks were left");
    }
}

#[test]
fn a_server_attends_to_signals_in_its_own_windows() {
    if let Some(outside) = served("tests/manifests/signalled-server.toml", " times, ") {
        assert_eq!(outside, 0);
    }
}
