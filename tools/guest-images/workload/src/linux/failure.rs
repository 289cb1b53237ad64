//! What went wrong.

use core::fmt;

/// Why a part failed.
pub enum Failure {
    /// A system call failed with this error number (errno(3)).
    Call(&'static str, usize),
    /// A result is not what it should be.
    Wrong(&'static str, u64),
    /// A process did not end by itself with the status 0.
    Process(u32),
}

impl Failure {
    pub fn wrong(what: &'static str, number: u64) -> Self {
        Self::Wrong(what, number)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(name, error) => write!(formatter, "{name} failed with error {error}"),
            Self::Wrong(what, number) => write!(formatter, "wrong {what} {number}"),
            Self::Process(status) => write!(formatter, "a process ended with wait status {status:#x}"),
        }
    }
}
