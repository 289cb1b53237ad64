//! How a run ended.

use std::{path::PathBuf, time::Duration};

/// What the machine did last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The system powered the machine off.
    PoweredOff,
    /// A processor shut down because a fault could not be delivered.
    TripleFault,
    /// The time limit passed and the emulator was killed.
    TimedOut,
    /// The user at the terminal ended the run.
    Stopped,
    /// The emulator ended by itself, with its last words.
    EmulatorFailed(String),
}

/// What the run amounts to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The system said that all went as its manifest wants, and powered off.
    Passed,
    /// It did not; the reason.
    Failed(String),
    /// Time ran out first.
    TimedOut,
}

/// What a run left behind.
#[derive(Clone, Debug)]
pub struct Report {
    /// What the machine did last.
    pub end: End,
    /// Everything that came over the serial line.
    pub serial: Vec<u8>,
    /// Wall-clock time.
    pub duration: Duration,
    /// Ticks that Bochs' machine lived for.
    pub ticks: Option<u64>,
    /// Where the emulator's configuration and logs are.
    pub directory: PathBuf,
}

/// What the last status line begins with.
const STATUS: &str = "bulkhead: end: ";
/// The console service's prefix of lines that init prints.
const INIT_PREFIX: &str = "init| ";

impl Report {
    /// Puts together the machine's end and the status line, `bulkhead: end: ok` or `bulkhead: end: failed: REASON`.
    /// A guest cannot forge it, since the console service puts the guest's name before each of its lines.
    pub fn verdict(&self) -> Verdict {
        let text = String::from_utf8_lossy(&self.serial);
        let status = text
            .lines()
            .rev()
            .map(str::trim_end)
            .find_map(|line| line.strip_prefix(INIT_PREFIX).unwrap_or(line).strip_prefix(STATUS));
        let logs = self.directory.display();
        match (&self.end, status) {
            (End::TimedOut, _) => Verdict::TimedOut,
            (End::PoweredOff, Some("ok")) => Verdict::Passed,
            (End::PoweredOff, Some(status)) => {
                Verdict::Failed(status.strip_prefix("failed: ").unwrap_or(status).to_owned())
            }
            (End::PoweredOff, None) => Verdict::Failed("the machine powered off without a status line".to_owned()),
            (End::TripleFault, _) => Verdict::Failed(format!("triple fault; the emulator's log is in {logs}")),
            (End::Stopped, _) => Verdict::Failed("stopped at the terminal".to_owned()),
            (End::EmulatorFailed(message), _) => {
                Verdict::Failed(format!("the emulator failed: {message}; its log is in {logs}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(end: End, serial: &str) -> Verdict {
        let serial = serial.as_bytes().to_vec();
        Report { end, serial, duration: Duration::ZERO, ticks: None, directory: PathBuf::new() }.verdict()
    }

    #[test]
    fn status_line_decides_after_a_clean_end() {
        assert_eq!(verdict(End::PoweredOff, "x\r\nbulkhead: end: ok\r\n"), Verdict::Passed);
        assert_eq!(verdict(End::PoweredOff, "x\ninit| bulkhead: end: ok\n"), Verdict::Passed);
        assert_eq!(
            verdict(End::PoweredOff, "bulkhead: end: failed: linux crashed\n"),
            Verdict::Failed("linux crashed".to_owned())
        );
        assert!(matches!(verdict(End::PoweredOff, "hello\n"), Verdict::Failed(_)));
        assert!(matches!(verdict(End::PoweredOff, "bulkhead: end: o"), Verdict::Failed(_)));
    }

    #[test]
    fn guests_cannot_forge_the_status() {
        assert!(matches!(verdict(End::PoweredOff, "linux| bulkhead: end: ok\n"), Verdict::Failed(_)));
        assert!(matches!(verdict(End::PoweredOff, "linux| init| bulkhead: end: ok\n"), Verdict::Failed(_)));
    }

    #[test]
    fn other_ends_never_pass() {
        let ok = "bulkhead: end: ok\n";
        assert_eq!(verdict(End::TimedOut, ok), Verdict::TimedOut);
        for end in [End::TripleFault, End::Stopped, End::EmulatorFailed("x".to_owned())] {
            assert!(matches!(verdict(end, ok), Verdict::Failed(_)));
        }
    }
}
