//! Methods of `Memory`.

use super::{Call, Outcome, create};
use crate::object::engine;
use bulkhead_abi::{Error, MemoryMethod, Syscall};

/// A method of `Memory`.
pub fn invoke(call: &Call, method: u64) -> Result<Outcome, Error> {
    match MemoryMethod::from_number(method).ok_or(Error::UnknownMethod)? {
        MemoryMethod::Create => create::create(call),
        MemoryMethod::Zero => zero(call, method),
    }
}

/// Zeroes a part, and calls again for the rest: the arguments themselves say what is left.
fn zero(call: &Call, method: u64) -> Result<Outcome, Error> {
    let [offset, length, third, fourth] = call.arguments;
    let done = engine().zero_step(call.slot, offset, length)?;
    if done >= length {
        return super::DONE;
    }
    let index = call.index;
    call.thread.restart_syscall(Syscall::Invoke as u64, [index, method, offset + done, length - done, third, fourth]);
    Ok(Outcome::Restarted)
}
