//! What is answered.

use crate::offer::{DiskRange, Offered};
use alloc::string::String;
use alloc::vec::Vec;
use bulkhead_driver::DriveInformation;
use core::fmt::Write;

/// An answer, by its number in a note.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Answer {
    /// What the device answers to its own identify command.
    Identify = 1,
    /// The disk, in words.
    Information = 2,
    /// There is no such request.
    Unknown = 3,
    /// The line has more bytes than a line may have.
    TooLong = 4,
    /// The service was started anew when the line had come in part.
    Restarted = 5,
}

impl Answer {
    /// The answer to a line.
    pub(super) fn to(line: &[u8]) -> Self {
        match line {
            b"identify" => Self::Identify,
            b"information" => Self::Information,
            _ => Self::Unknown,
        }
    }

    /// The answer of this number, if there is one.
    pub(super) const fn from_number(number: u64) -> Option<Self> {
        match number {
            1 => Some(Self::Identify),
            2 => Some(Self::Information),
            3 => Some(Self::Unknown),
            4 => Some(Self::TooLong),
            5 => Some(Self::Restarted),
            _ => None,
        }
    }
}

/// The answers of a disk. They do not change.
pub struct Answers {
    identify: Vec<u8>,
    information: Vec<u8>,
}

impl Answers {
    /// Answers for the disk in a range of a drive. They say nothing of other ranges.
    pub fn new(range: &DiskRange<'_>, drive: &DriveInformation) -> Self {
        Self { identify: counted(&drive.identify), information: counted(information(range, drive).as_bytes()) }
    }

    /// All bytes of an answer.
    pub(super) fn bytes(&self, answer: Answer) -> &[u8] {
        match answer {
            Answer::Identify => &self.identify,
            Answer::Information => &self.information,
            Answer::Unknown => b"error unknown request\n",
            Answer::TooLong => b"error too long\n",
            Answer::Restarted => b"error restarted\n",
        }
    }
}

/// The bytes behind a line that says how many they are.
fn counted(bytes: &[u8]) -> Vec<u8> {
    let mut answer = alloc::format!("ok {}\n", bytes.len()).into_bytes();
    answer.extend_from_slice(bytes);
    answer
}

/// The disk as its guest has it.
fn information(range: &DiskRange<'_>, drive: &DriveInformation) -> String {
    let offered = Offered::new(range, drive);
    let block = u64::from(drive.logical_block_size);
    let mut text = String::new();
    let mut line = |key: &str, value: &dyn core::fmt::Display| {
        // A string takes everything.
        let _ = writeln!(text, "{key}={value}");
    };
    let yes = |has| if has { "yes" } else { "no" };
    line("name", &range.name);
    line("model", &plain(&drive.model));
    line("serial", &plain(&drive.serial));
    line("firmware", &plain(&drive.firmware));
    line("sectors", &range.sectors);
    line("logical_block_size", &block);
    line("physical_block_size", &(block << (offered.physical_exponent & 7)));
    line("write_cache", &yes(drive.write_cache));
    line("flush", &yes(offered.flush));
    line("discard", &yes(offered.discard.is_some()));
    line("write_zeroes", &yes(offered.write_zeroes.is_some()));
    line("queues", &offered.queues);
    line("read_only", &yes(range.read_only));
    text
}

/// A device's text without its padding. It stays on its line, whatever the device says.
fn plain(text: &[u8]) -> String {
    let visible = |byte: &u8| if byte.is_ascii_graphic() { char::from(*byte) } else { ' ' };
    let text: String = text.iter().map(visible).collect();
    String::from(text.trim())
}
