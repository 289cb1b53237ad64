//! Fetches the bytes of the instruction at RIP.

use super::instruction::Mode;
use super::walk::{Access, PageFault, Paging, walk};
use crate::memory::{GuestLinear, GuestMemory};
use bulkhead_abi::{VcpuState, segment};

/// Longest instruction.
pub const LONGEST: usize = 15;

/// Up to 15 bytes from RIP on, and why there are no more.
#[derive(Clone, Copy, Debug)]
pub struct Fetched {
    /// The bytes; zeroes from `length` on.
    pub bytes: [u8; LONGEST],
    /// How many of them could be read.
    pub length: u8,
    /// What the processor raises when the instruction is longer than `length`; none when the limit is 15 bytes, or when the
    /// code continues outside of RAM.
    pub fault: Option<PageFault>,
}

/// Reads the bytes at RIP.
#[inline]
pub fn fetch(memory: &impl GuestMemory, paging: &Paging, state: &VcpuState, mode: Mode) -> Fetched {
    let linear = match mode {
        Mode::Bits64 => GuestLinear(state.rip),
        Mode::Bits32 | Mode::Bits16 => {
            GuestLinear(state.segments[segment::CS].base.wrapping_add(state.rip) & 0xffff_ffff)
        }
    };
    let mut fetched = Fetched { bytes: [0; LONGEST], length: 0, fault: None };
    let left = linear.left_in_page();
    if left >= LONGEST as u64 {
        match walk(memory, paging, linear, Access::Fetch) {
            Ok(address) if memory.read(address, &mut fetched.bytes).is_ok() => fetched.length = LONGEST as u8,
            Ok(_) => (),
            Err(fault) => fetched.fault = Some(fault),
        }
        return fetched;
    }
    let (first, second) = fetched.bytes.split_at_mut(left as usize);
    for (linear, part) in [(linear, first), (linear.offset(left), second)] {
        match walk(memory, paging, linear, Access::Fetch) {
            Ok(address) if memory.read(address, part).is_ok() => fetched.length += part.len() as u8,
            Ok(_) => break,
            Err(fault) => {
                fetched.fault = Some(fault);
                break;
            }
        }
    }
    fetched
}
