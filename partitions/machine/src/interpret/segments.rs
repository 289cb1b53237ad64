//! Loading segment registers.

use super::descriptor::{access, error_code, is_null, not_present, protection, system};
use super::interpreter::Interpreter;
use super::{Break, Environment, vector};
use crate::memory::GuestMemory;
use bulkhead_abi::{Segment, segment};

impl<M: GuestMemory, E: Environment> Interpreter<'_, M, E> {
    /// The value of a segment register loaded in real mode: base and selector are new; the limit and the size bits of before stay,
    /// on which "big real mode" relies. The rights are those of level 0, which protected mode then begins with.
    pub fn real_segment(&self, index: usize, selector: u16) -> Segment {
        let before = self.machine.state.segments[index & 7];
        let kind = if index == segment::CS { access::READABLE_CODE } else { access::DATA };
        Segment {
            base: u64::from(selector) << 4,
            limit: before.limit,
            access: before.access & (access::BIG | access::GRANULAR) | access::PRESENT | access::ORDINARY | kind,
            selector: selector.into(),
        }
    }

    /// Loads a segment register other than CS (SDM vol. 2, MOV).
    pub fn load_segment(&mut self, index: usize, selector: u16) -> Result<(), Break> {
        let value = if !self.is_protected() {
            self.real_segment(index, selector)
        } else if index == segment::SS {
            self.stack_segment(selector)?
        } else {
            self.data_segment(selector)?
        };
        self.machine.state.segments[index & 7] = value;
        Ok(())
    }

    fn stack_segment(&mut self, selector: u16) -> Result<Segment, Break> {
        if is_null(selector) {
            return Err(Break::PROTECTION);
        }
        let descriptor = self.descriptor(selector)?;
        let writable = descriptor.has(access::ORDINARY | access::WRITABLE) && !descriptor.is_code();
        if !writable || selector & 3 != 0 || descriptor.privilege() != 0 {
            return Err(protection(selector));
        }
        if !descriptor.has(access::PRESENT) {
            return Err(Break::coded(vector::STACK, error_code(selector)));
        }
        Ok(self.mark_descriptor(selector, descriptor, access::ACCESSED)?.segment(selector))
    }

    fn data_segment(&mut self, selector: u16) -> Result<Segment, Break> {
        if is_null(selector) {
            // The limit is what real mode starts with, should the guest go back there without loading one.
            return Ok(Segment { base: 0, limit: 0xffff, access: access::UNUSABLE, selector: selector.into() });
        }
        let descriptor = self.descriptor(selector)?;
        let readable = !descriptor.is_code() || descriptor.has(access::WRITABLE);
        let conforming = descriptor.is_code() && descriptor.has(access::CONFORMING);
        let privileged = conforming || selector & 3 <= descriptor.privilege();
        if !descriptor.has(access::ORDINARY) || !readable || !privileged {
            return Err(protection(selector));
        }
        if !descriptor.has(access::PRESENT) {
            return Err(not_present(selector));
        }
        Ok(self.mark_descriptor(selector, descriptor, access::ACCESSED)?.segment(selector))
    }

    /// The code segment that a transfer of control at level 0 goes to (SDM vol. 3, 6.8).
    ///
    /// # Errors
    /// Exceptions as of the processor; [`Break::Unsupported`] for gates and tasks.
    pub fn code_segment(&mut self, selector: u16) -> Result<Segment, Break> {
        if !self.is_protected() {
            return Ok(self.real_segment(segment::CS, selector));
        }
        if is_null(selector) {
            return Err(Break::PROTECTION);
        }
        let descriptor = self.descriptor(selector)?;
        if !descriptor.has(access::ORDINARY) {
            return Err(match descriptor.kind() {
                system::CALL_GATE_16 | system::CALL_GATE_32 | system::TASK_GATE | system::TSS_16 | system::TSS_32 => {
                    Break::Unsupported
                }
                _ => protection(selector),
            });
        }
        let conforming = descriptor.has(access::CONFORMING);
        if !descriptor.is_code() || descriptor.privilege() != 0 || !conforming && selector & 3 != 0 {
            return Err(protection(selector));
        }
        if !descriptor.has(access::PRESENT) {
            return Err(not_present(selector));
        }
        Ok(self.mark_descriptor(selector, descriptor, access::ACCESSED)?.segment(selector & !3))
    }
}
