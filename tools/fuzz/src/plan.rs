//! Plans: what init reads before anything else.

use crate::Input;
use bulkhead_plan::{PLAN_MAGIC, PLAN_VERSION, Plan};

/// Reads bytes as a plan, after a header that is right as far as bytes can be.
pub fn run(input: &mut Input<'_>) {
    let mut words = vec![PLAN_MAGIC, 0];
    let is_whole = input.byte() & 3 != 0;
    words.extend(input.rest().chunks(8).map(|chunk| chunk.iter().fold(0, |word, byte| word << 8 | u64::from(*byte))));
    let size = 8 * words.len() as u64;
    words[1] = u64::from(PLAN_VERSION) | if is_whole { size } else { words.get(2).copied().unwrap_or(0) } << 32;
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    // A plan is aligned to 8 bytes.
    bytes.reserve(8);
    let start = bytes.as_ptr().align_offset(8);
    bytes.splice(..0, std::iter::repeat_n(0, start));
    if let Some(Ok(plan)) = bytes.get(start..).map(Plan::parse) {
        for partition in plan.partitions() {
            assert!(partition.grants().count() <= partition.record.binding_count as usize);
        }
    }
}
