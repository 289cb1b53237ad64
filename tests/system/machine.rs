//! An emulated machine, and what came of booting a manifest on it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bulkhead_harness::Backend;

/// Seconds after which a run is ended; many times what any of them takes.
pub const LIMIT: u64 = 100;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Waits until no other test runs a machine.
pub fn turn() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether this host has the emulator; says so if not.
pub fn has(backend: Backend) -> bool {
    let missing = backend.missing_tools();
    if !missing.is_empty() {
        eprintln!("skipped: {backend} is not installed");
    }
    missing.is_empty()
}

/// A file of the checkout.
pub fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

/// The place in the source at which this text is for the first time, as the host command writes it.
pub fn place(file: &str, text: &str) -> String {
    let source = fs::read_to_string(path(file)).expect("the source is there");
    let line = source.lines().position(|line| line.contains(text)).expect("the source has this text");
    format!("({file}:{})", line + 1)
}

/// What a run ended with.
pub struct Outcome {
    /// Exit status of the host command.
    pub status: Option<i32>,
    /// Everything on the serial line.
    pub serial: String,
    /// What the host command showed of it, and beside it.
    pub terminal: String,
    /// What the host command said.
    pub messages: String,
}

/// Runs a manifest with more arguments, such as `--cpu`.
pub fn run(manifest: &str, backend: Backend, arguments: &[&str]) -> Outcome {
    run_within(LIMIT, manifest, backend, arguments)
}

/// The same with another limit, in seconds.
pub fn run_within(limit: u64, manifest: &str, backend: Backend, arguments: &[&str]) -> Outcome {
    command_within("run", limit, manifest, backend, arguments)
}

/// The same with another command that runs a system, such as `trace`.
pub fn command_within(command: &str, limit: u64, manifest: &str, backend: Backend, arguments: &[&str]) -> Outcome {
    let _turn = turn();
    let serial = Path::new(env!("CARGO_TARGET_TMPDIR")).join("system-serial.log");
    // Absent the first time, and when the command refuses to run anything.
    let _ = fs::remove_file(&serial);
    let output = Command::new(env!("CARGO_BIN_EXE_bulkhead"))
        .arg(command)
        .arg(path(manifest))
        .args(["--backend", &backend.to_string()])
        .args(["--timeout", &limit.to_string()])
        .arg("--serial")
        .arg(&serial)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("the command starts");
    let bytes = fs::read(&serial).unwrap_or_default();
    Outcome {
        status: output.status.code(),
        serial: String::from_utf8_lossy(&bytes).into_owned(),
        terminal: String::from_utf8_lossy(&output.stdout).into_owned(),
        messages: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The same on Bochs with guests that come from packages; `None` on a host that has no Bochs, or cannot fetch them.
pub fn run_packaged(limit: u64, manifest: &str, arguments: &[&str]) -> Option<Outcome> {
    if !has(Backend::Bochs) {
        return None;
    }
    let outcome = run_within(limit, manifest, Backend::Bochs, arguments);
    if outcome.status == Some(2) && outcome.messages.contains("apt-get download") {
        eprintln!("skipped: {}", outcome.messages);
        return None;
    }
    Some(outcome.expect_status(0))
}

impl Outcome {
    /// Checks the exit status.
    #[track_caller]
    pub fn expect_status(self, status: i32) -> Self {
        assert_eq!(self.status, Some(status), "{self}");
        self
    }

    /// Checks that these texts are on the serial line, in this order.
    #[track_caller]
    pub fn expect_in_order(self, texts: &[&str]) -> Self {
        let mut rest = self.serial.as_str();
        for text in texts {
            let Some(place) = rest.find(text) else {
                panic!("`{text}` is missing, or in another order:\n{self}");
            };
            rest = &rest[place + text.len()..];
        }
        self
    }

    /// Checks that this text is not on the serial line.
    #[track_caller]
    pub fn expect_absent(self, text: &str) -> Self {
        assert!(!self.serial.contains(text), "`{text}` is there:\n{self}");
        self
    }

    /// Checks what the host command said.
    #[track_caller]
    pub fn expect_message(self, text: &str) -> Self {
        assert!(self.messages.contains(text), "`{text}` is missing:\n{self}");
        self
    }

    /// The lines that the partition or guest of this name printed; without the beginnings of lines that the console showed again as a
    /// whole, since somebody else's came in between.
    pub fn lines_of(&self, name: &str) -> Vec<&str> {
        let prefix = format!("{name}| ");
        let all = self.serial.lines().filter_map(|line| line.strip_prefix(&prefix)).map(str::trim_end);
        let lines: Vec<_> = all.collect();
        let next = lines.iter().skip(1).map(Some).chain([None]);
        let is_whole =
            |line: &str, next: Option<&&str>| next.is_none_or(|next| *next == line || !next.starts_with(line));
        lines.iter().zip(next).filter(|(line, next)| is_whole(line, *next)).map(|(line, _)| *line).collect()
    }

    /// What the monitor of a guest has counted of its first processor at the end, by name.
    pub fn counts(&self, guest: &str) -> BTreeMap<String, u64> {
        let lines = self.lines_of(&format!("{guest}-vmm"));
        let ends = lines.iter().filter_map(|line| line.strip_prefix("vmm: statistics 0 end: "));
        let pairs = ends.flat_map(str::split_whitespace).filter_map(|pair| pair.split_once('='));
        pairs.map(|(name, count)| (name.to_owned(), count.parse().expect("a number"))).collect()
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            formatter,
            "status {:?}\n-- serial line:\n{}\n-- messages:\n{}",
            self.status, self.serial, self.messages
        )
    }
}
