//! REP STOS and REP MOVS on plain RAM, many elements at a time: most of what start-up code executes is clearing and copying.

use super::interpreter::{Completion, Interpreter};
use super::{Break, Environment};
use crate::emulate::Access;
use crate::emulate::instruction::{Decoded, Repeat, StringOperation};
use crate::emulate::registers::{flags, mask};
use crate::memory::{GuestMemory, GuestPhysical, OutOfGuest};
use bulkhead_abi::register::{RAX, RCX, RDI, RSI};
use bulkhead_abi::segment;

/// Bytes of one step, so that interrupts are not kept waiting.
const STEP: u64 = 16 << 10;
/// Bytes moved at once; a multiple of every element's.
const CHUNK: usize = 512;

/// Elements one behind the other, upwards.
struct Run {
    elements: u64,
    width: u8,
    address_width: u8,
}

impl<M: GuestMemory, E: Environment> Interpreter<'_, M, E> {
    /// Does the next elements of `decoded`, if they are all in RAM and within their segments, and nothing speaks against doing them at
    /// once; else they have to be done one by one.
    pub fn string_in_bulk(
        &mut self,
        decoded: &Decoded,
        operation: StringOperation,
    ) -> Result<Option<Completion>, Break> {
        let moves = match operation {
            StringOperation::Move => true,
            StringOperation::Store => false,
            _ => return Ok(None),
        };
        if decoded.repeat == Repeat::Once || self.machine.state.rflags & flags::DF != 0 {
            return Ok(None);
        }
        let count = self.register(RCX) & mask(decoded.address_width);
        let elements = count.min(STEP / u64::from(decoded.width));
        let run = Run { elements, width: decoded.width, address_width: decoded.address_width };
        if elements < 2 {
            return Ok(None);
        }
        let bytes = elements * u64::from(run.width);
        let Some(target) = self.range(&run, segment::ES as u8, RDI, Access::Write) else {
            return Ok(None);
        };
        if moves {
            match self.range(&run, decoded.memory.segment, RSI, Access::Read) {
                // An element would be read after it was written.
                Some(source) if source.0 < target.0 && target.0 < source.0 + bytes => return Ok(None),
                Some(source) => self.copy(source, target, bytes),
                None => return Ok(None),
            }
            .map_err(|_| Break::Unsupported)?;
            self.advance_index(&run, RSI, bytes);
        } else {
            self.fill(target, bytes, run.width).map_err(|_| Break::Unsupported)?;
        }
        self.advance_index(&run, RDI, bytes);
        self.set_register(RCX, run.address_width, count - elements);
        Ok(Some(if count == elements { Completion::Next } else { Completion::Partial }))
    }

    /// Where the elements at index register `index` are, if they are all in RAM, one behind the other. Limits are checked for the
    /// first and the last: what is between them is within the segment, too.
    fn range(&self, run: &Run, segment: u8, index: usize, access: Access) -> Option<GuestPhysical> {
        let distance = (run.elements - 1) * u64::from(run.width);
        let offset = self.register(index) & mask(run.address_width);
        let last = offset + distance;
        if last > mask(run.address_width) {
            return None;
        }
        let first = self.machine.linear(segment, offset, run.width, access).ok()?;
        let last = self.machine.linear(segment, last, run.width, access).ok()?;
        let address = GuestPhysical(first.0);
        let contiguous = last.0 == first.0 + distance;
        (contiguous && self.machine.memory.contains(address, distance + u64::from(run.width))).then_some(address)
    }

    fn advance_index(&mut self, run: &Run, index: usize, bytes: u64) {
        let value = self.register(index).wrapping_add(bytes);
        self.set_register(index, run.address_width, value);
    }

    fn copy(&self, source: GuestPhysical, target: GuestPhysical, bytes: u64) -> Result<(), OutOfGuest> {
        let mut buffer = [0; CHUNK];
        for done in (0..bytes).step_by(CHUNK) {
            let length = (bytes - done).min(CHUNK as u64) as usize;
            let part = buffer.get_mut(..length).unwrap_or_default();
            self.machine.memory.read(source.offset(done), part)?;
            self.machine.memory.write(target.offset(done), part)?;
        }
        Ok(())
    }

    fn fill(&self, target: GuestPhysical, bytes: u64, width: u8) -> Result<(), OutOfGuest> {
        let element = self.register(RAX).to_le_bytes();
        let mut pattern = [0; CHUNK];
        for (byte, value) in pattern.iter_mut().zip(element.iter().take(width.into()).cycle()) {
            *byte = *value;
        }
        for done in (0..bytes).step_by(CHUNK) {
            let length = (bytes - done).min(CHUNK as u64) as usize;
            self.machine.memory.write(target.offset(done), pattern.get(..length).unwrap_or(&pattern))?;
        }
        Ok(())
    }
}
