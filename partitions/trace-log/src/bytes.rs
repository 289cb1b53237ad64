//! Records as bytes: numbers of seven bits a byte, differences of times, and threads only where they change.

use alloc::vec::Vec;
use bulkhead_abi::TraceRecord;

/// In the first byte: partition and thread are those of the record before.
const SAME_THREAD: u8 = 0x80;
/// In the first byte: both arguments are 0.
const NO_ARGUMENTS: u8 = 0x40;
/// The kind in the first byte.
const KIND: u8 = 0x3f;

fn put(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..u64::BITS).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Adds a record behind another one.
pub(crate) fn encode(bytes: &mut Vec<u8>, before: &TraceRecord, record: &TraceRecord) {
    let same = (record.partition, record.thread) == (before.partition, before.thread);
    let flags = if same { SAME_THREAD } else { 0 } | if record.arguments == [0; 2] { NO_ARGUMENTS } else { 0 };
    bytes.push(record.kind as u8 & KIND | flags);
    // Times of a CPU do not go back; if they seem to, the difference wraps, and so does the sum.
    put(bytes, record.tsc.wrapping_sub(before.tsc));
    if !same {
        put(bytes, u64::from(record.partition));
        put(bytes, u64::from(record.thread));
    }
    if record.arguments != [0; 2] {
        record.arguments.iter().for_each(|argument| put(bytes, *argument));
    }
}

/// Takes a record off the beginning of the bytes.
pub(crate) fn decode(bytes: &mut &[u8], before: &TraceRecord) -> Option<TraceRecord> {
    let (first, rest) = bytes.split_first()?;
    *bytes = rest;
    let mut record = TraceRecord { kind: u16::from(first & KIND), ..*before };
    record.tsc = before.tsc.wrapping_add(take(bytes)?);
    if first & SAME_THREAD == 0 {
        record.partition = u16::try_from(take(bytes)?).ok()?;
        record.thread = u32::try_from(take(bytes)?).ok()?;
    }
    record.arguments = if first & NO_ARGUMENTS != 0 { [0; 2] } else { [take(bytes)?, take(bytes)?] };
    Some(record)
}
