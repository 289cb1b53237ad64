//! Pipes, and standard output, which is written the same way.

#![allow(unsafe_code)]

use super::{
    Failure,
    call::{CLOSE, PIPE2, READ, WRITE, call, call_with_numbers},
};

/// Both ends of a pipe.
pub struct Pipe {
    pub reader: PipeEnd,
    pub writer: PipeEnd,
}

/// One end; it stays open until it is closed, in every process that has it.
pub struct PipeEnd(usize);

impl Pipe {
    pub fn new() -> Result<Self, Failure> {
        let mut ends = [0u32; 2];
        // SAFETY: the kernel writes the numbers of both ends.
        unsafe { call("pipe2", PIPE2, [ends.as_mut_ptr().addr(), 0, 0, 0, 0, 0]) }?;
        let [reader, writer] = ends.map(|end| PipeEnd(end as usize));
        Ok(Self { reader, writer })
    }
}

impl PipeEnd {
    pub const STANDARD_OUTPUT: Self = Self(1);

    /// What the kernel gave under this number, a connection for instance.
    pub(super) fn of_file(number: usize) -> Self {
        Self(number)
    }

    /// Closes it in this process.
    pub fn close(&self) {
        // The number is one that the kernel gave: closing fails only if it is closed already.
        let _ = call_with_numbers("close", CLOSE, [self.0]);
    }

    /// Writes all bytes.
    pub fn write(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut rest = bytes;
        while !rest.is_empty() {
            // SAFETY: the kernel reads these bytes.
            let written = unsafe { call("write", WRITE, [self.0, rest.as_ptr().addr(), rest.len(), 0, 0, 0]) }?;
            rest = rest.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    /// Fills all bytes; false if the pipe ended before the first one.
    pub fn read(&self, bytes: &mut [u8]) -> Result<bool, Failure> {
        let length = bytes.len();
        let mut done = 0;
        while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
            // SAFETY: the kernel writes these bytes.
            match unsafe { call("read", READ, [self.0, rest.as_mut_ptr().addr(), rest.len(), 0, 0, 0]) }? {
                0 if done == 0 => return Ok(false),
                0 => return Err(Failure::wrong("length of a message:", (length - done) as u64)),
                count => done += count,
            }
        }
        Ok(true)
    }
}
