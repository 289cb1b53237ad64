//! Physical region pages: where the controller finds a command's memory (NVMe 1.4, 4.3).
//!
//! All pages are whole but the first, which may begin anywhere at a multiple of 4 bytes, and the last, which may end anywhere.

use crate::memory::{LIST_ENTRIES, PAGE};
use bulkhead_driver::{DmaMemory, PhysicalSegment};

/// Physical addresses are below it (SDM vol. 3, 4.1.4: at most 52 bits).
const REACH: u64 = 1 << 52;
/// Most pages of a command.
const MAX_PAGES: usize = 1 + LIST_ENTRIES;

/// Goes through segments as far as they can be described: calls `page` with the address of each page, the first with its offset.
/// Returns the bytes, and whether that was all.
fn pages(
    segments: impl IntoIterator<Item = PhysicalSegment>,
    limit: u64,
    mut page: impl FnMut(usize, u64),
) -> (u64, bool) {
    let (mut bytes, mut count) = (0, 0);
    let mut end: Option<u64> = None;
    for segment in segments {
        let length = segment.length.min(limit - bytes);
        if length == 0 {
            continue;
        }
        let goes_on = match end {
            None => segment.address.is_multiple_of(4),
            Some(end) => segment.address == end || (end.is_multiple_of(PAGE) && segment.address.is_multiple_of(PAGE)),
        };
        let reachable = segment.address.checked_add(length).is_some_and(|end| end <= REACH);
        if !goes_on || !reachable {
            return (bytes, false);
        }
        let (mut address, stop) = (segment.address, segment.address + length);
        while address < stop {
            if end.is_none() || address.is_multiple_of(PAGE) {
                if count == MAX_PAGES {
                    return (bytes, false);
                }
                page(count, address);
                count += 1;
            }
            let next = (address - address % PAGE + PAGE).min(stop);
            bytes += next - address;
            address = next;
            end = Some(next);
        }
    }
    (bytes, true)
}

/// How many bytes from the beginning of the segments, at most `limit`, one command can describe.
pub fn fitting(segments: impl IntoIterator<Item = PhysicalSegment>, limit: u64) -> u64 {
    pages(segments, limit, |_, _| {}).0
}

/// Describes all the segments. Returns the bytes and the two PRP entries of the command, the second being an address, or that of
/// the list, or 0; `None` if they cannot be described.
pub fn describe(segments: impl IntoIterator<Item = PhysicalSegment>, list: &DmaMemory<'_>) -> Option<(u64, [u64; 2])> {
    let (mut first, mut second, mut count) = (0, 0, 0);
    let (bytes, all) = pages(segments, u64::MAX, |index, address| {
        count = index + 1;
        match index.checked_sub(1) {
            None => first = address,
            Some(at) => {
                if at == 0 {
                    second = address;
                }
                list.write_u64(8 * at, address);
            }
        }
    });
    let second = if count > 2 { list.physical() } else { second };
    all.then_some((bytes, [first, second]))
}
