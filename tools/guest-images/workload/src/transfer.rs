//! A stream of known bytes from one machine to another, over TCP.

use core::time::Duration;

use crate::{
    linux::{Failure, PipeEnd, accept, connect, sleep},
    mix::mix,
};

/// Bytes of the stream.
const LENGTH: usize = 16 << 20;
/// Bytes sent or received at a time.
const BLOCK: usize = 32 << 10;
/// Attempts to connect, one a second.
const ATTEMPTS: u32 = 60;

/// The words of a block.
fn fill(block: &mut [u8], number: u64) {
    let (words, _) = block.as_chunks_mut::<8>();
    for (place, word) in (0..).zip(words) {
        *word = mix(number, place).to_le_bytes();
    }
}

/// A connection to a machine that may take its time until it answers.
pub fn reach(to: [u8; 4], port: u16) -> Result<PipeEnd, Failure> {
    let mut attempts = 0;
    loop {
        match connect(to, port) {
            Ok(connection) => return Ok(connection),
            Err(failure) if attempts == ATTEMPTS => return Err(failure),
            Err(_) => attempts += 1,
        }
        sleep(Duration::from_secs(1))?;
    }
}

/// Sends the stream. Returns its length.
pub fn send(to: [u8; 4], port: u16) -> Result<usize, Failure> {
    let connection = reach(to, port)?;
    let mut block = [0; BLOCK];
    for number in 0..LENGTH / BLOCK {
        fill(&mut block, number as u64);
        connection.write(&block)?;
    }
    // The receiver says that it has all.
    let mut end = [0];
    let has_all = connection.read(&mut end)? && end == [1];
    connection.close();
    if has_all { Ok(LENGTH) } else { Err(Failure::wrong("answer:", end[0].into())) }
}

/// Receives the stream and compares it. Returns its length.
pub fn receive(port: u16) -> Result<usize, Failure> {
    let connection = accept(port)?;
    let (mut block, mut expected) = ([0; BLOCK], [0; BLOCK]);
    for number in 0..LENGTH / BLOCK {
        if !connection.read(&mut block)? {
            return Err(Failure::wrong("length of the stream:", (number * BLOCK) as u64));
        }
        fill(&mut expected, number as u64);
        if block != expected {
            return Err(Failure::wrong("bytes in block", number as u64));
        }
    }
    connection.write(&[1])?;
    connection.close();
    Ok(LENGTH)
}
