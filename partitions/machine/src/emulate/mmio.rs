//! Emulates the instruction at RIP, whose access to memory the hardware could not complete.

use super::cache::DecodeCache;
use super::decode::DecodeError;
use super::execute::Progress;
use super::fetch::{LONGEST, fetch};
use super::instruction::Mode;
use super::operand::Machine;
use super::registers::{advance, step};
use super::walk::Paging;
use super::{Exception, Mmio, Outcome, Stop};
use crate::memory::GuestMemory;
use bulkhead_abi::VcpuState;

pub use super::operand::Hint;

/// Fetches, decodes and executes the instruction at RIP. `hint` is
/// [`Hint::from_exit`], or `None` to walk the guest's page tables for every access.
#[inline]
pub fn emulate<M: GuestMemory, D: Mmio>(
    state: &mut VcpuState,
    memory: &M,
    device: &mut D,
    cache: &mut DecodeCache,
    hint: Option<Hint>,
) -> Outcome {
    let mode = Mode::new(state);
    let paging = Paging::new(state);
    let fetched = fetch(memory, &paging, state, mode);
    let decoded = match cache.decode(state.rip, &fetched, mode) {
        Ok(decoded) => decoded,
        Err(DecodeError::Invalid) => return Outcome::Exception(Exception::InvalidOpcode),
        Err(DecodeError::Unsupported) => {
            return Outcome::Unsupported { bytes: fetched.bytes };
        }
        Err(DecodeError::Incomplete) => {
            return match fetched.fault {
                Some(fault) => Outcome::Exception(Exception::PageFault(fault)),
                // An instruction of more than 15 bytes.
                None if usize::from(fetched.length) == LONGEST => Outcome::Exception(Exception::GeneralProtection),
                None => Outcome::Unsupported { bytes: fetched.bytes },
            };
        }
    };
    let mut machine = Machine { state, memory, device, paging, mode, hint };
    match machine.execute(&decoded) {
        Ok(Progress::Complete) => {
            advance(state, u32::from(decoded.length), mode == Mode::Bits64);
            Outcome::Done
        }
        Ok(Progress::Partial) => {
            step(state);
            Outcome::Again
        }
        Err(Stop::Exception(exception)) => Outcome::Exception(exception),
        Err(Stop::Unsupported) => Outcome::Unsupported { bytes: fetched.bytes },
    }
}
