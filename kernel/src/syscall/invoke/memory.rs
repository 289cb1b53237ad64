//! Methods of `Memory`.

use super::{Call, DONE, Outcome, create};
use crate::object::engine;
use crate::trace;
use bulkhead_abi::{Error, MemoryMethod, PAGE_SIZE, Rights};

/// A method of `Memory`.
pub fn invoke(call: &Call, method: u64) -> Result<Outcome, Error> {
    match MemoryMethod::from_number(method).ok_or(Error::UnknownMethod)? {
        MemoryMethod::Create => create::create(call),
        MemoryMethod::Zero => {
            // A part; the arguments of the next call say what is left.
            let [offset, length, third, fourth] = call.arguments;
            engine().zero_step(call.slot, offset, length)?;
            if length == PAGE_SIZE {
                return DONE;
            }
            Ok(Outcome::AgainWith([offset + PAGE_SIZE, length - PAGE_SIZE, third, fourth]))
        }
        MemoryMethod::Trace => trace::bind(call.slot, call.object(call.arguments[0], Rights::CONTROL)?),
    }
}
