//! Segment descriptors in memory (SDM vol. 3, 3.4.5) and their selectors.

use super::interpreter::Interpreter;
use super::operand::Location;
use super::{Break, Environment, vector};
use crate::emulate::Access;
use crate::memory::{GuestLinear, GuestMemory};
use bulkhead_abi::{Segment, segment};

/// Access rights in VMX format (SDM vol. 3, 25.4.1).
pub mod access {
    pub const ACCESSED: u32 = 1 << 0;
    /// Data: writable. Code: readable.
    pub const WRITABLE: u32 = 1 << 1;
    /// Of code segments.
    pub const CONFORMING: u32 = 1 << 2;
    pub const CODE: u32 = 1 << 3;
    /// S: code or data, not a system segment.
    pub const ORDINARY: u32 = 1 << 4;
    pub const PRESENT: u32 = 1 << 7;
    pub const LONG: u32 = 1 << 13;
    pub const BIG: u32 = 1 << 14;
    pub const GRANULAR: u32 = 1 << 15;
    pub const UNUSABLE: u32 = 1 << 16;
    /// Type of an ordinary segment: data, readable, writable, accessed.
    pub const DATA: u32 = 0x3;
    /// Code, readable, accessed.
    pub const READABLE_CODE: u32 = 0xb;
}

/// Types of system descriptors.
pub mod system {
    pub const TSS_16: u32 = 1;
    pub const LDT: u32 = 2;
    pub const CALL_GATE_16: u32 = 4;
    pub const TASK_GATE: u32 = 5;
    pub const TSS_32: u32 = 9;
    pub const CALL_GATE_32: u32 = 12;
    /// Bit of a TSS type: busy.
    pub const BUSY: u32 = 2;
}

/// A descriptor of 8 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor(pub u64);

impl Descriptor {
    /// Access rights in VMX format.
    pub const fn access(self) -> u32 {
        (self.0 >> 40) as u32 & 0xf0ff
    }

    /// The type, bits 3 to 0.
    pub const fn kind(self) -> u32 {
        self.access() & 0xf
    }

    /// Whether all bits of `mask` are set in the access rights.
    pub const fn has(self, mask: u32) -> bool {
        self.access() & mask == mask
    }

    /// Descriptor privilege level.
    pub const fn privilege(self) -> u16 {
        (self.0 >> 45) as u16 & 3
    }

    /// A code segment, and neither data nor a system segment.
    pub const fn is_code(self) -> bool {
        self.has(access::ORDINARY | access::CODE)
    }

    /// Limit in bytes.
    pub const fn limit(self) -> u32 {
        let limit = (self.0 & 0xffff | self.0 >> 32 & 0xf_0000) as u32;
        if self.has(access::GRANULAR) { limit << 12 | 0xfff } else { limit }
    }

    /// Base address.
    pub const fn base(self) -> u64 {
        self.0 >> 16 & 0xff_ffff | self.0 >> 32 & 0xff00_0000
    }

    /// The segment register that the descriptor loads.
    pub const fn segment(self, selector: u16) -> Segment {
        Segment { base: self.base(), limit: self.limit(), access: self.access(), selector: selector as u64 }
    }
}

/// Whether a selector names no descriptor.
pub const fn is_null(selector: u16) -> bool {
    selector & !3 == 0
}

/// The error code of an exception about a selector.
pub const fn error_code(selector: u16) -> u32 {
    selector as u32 & 0xfffc
}

/// #GP about a selector.
pub const fn protection(selector: u16) -> Break {
    Break::coded(vector::GENERAL_PROTECTION, error_code(selector))
}

/// #NP about a selector.
pub const fn not_present(selector: u16) -> Break {
    Break::coded(vector::NOT_PRESENT, error_code(selector))
}

impl<M: GuestMemory, E: Environment> Interpreter<'_, M, E> {
    /// The linear address of the descriptor that `selector` names, if its table has it.
    fn descriptor_address(&self, selector: u16) -> Option<u64> {
        const LOCAL: u16 = 1 << 2;
        let state = &*self.machine.state;
        let table = if selector & LOCAL != 0 {
            let table = &state.segments[segment::LDTR];
            (table.access & access::UNUSABLE == 0).then_some(table)?
        } else {
            &state.gdtr
        };
        let offset = u64::from(selector & !7);
        (offset + 7 <= u64::from(table.limit)).then(|| table.base.wrapping_add(offset))
    }

    /// Reads the descriptor that `selector` names; nothing if there is none.
    pub fn find_descriptor(&mut self, selector: u16) -> Result<Option<Descriptor>, Break> {
        match self.descriptor_address(selector) {
            Some(address) => Ok(Some(Descriptor(self.read_system(address, 8)?))),
            None => Ok(None),
        }
    }

    /// Reads the descriptor that `selector` names.
    ///
    /// # Errors
    /// #GP with the selector if its table does not have it.
    pub fn descriptor(&mut self, selector: u16) -> Result<Descriptor, Break> {
        self.find_descriptor(selector)?.ok_or(protection(selector))
    }

    /// Sets type bits of a descriptor in memory, in one step as other processors see it: accessed, busy.
    pub fn mark_descriptor(&mut self, selector: u16, descriptor: Descriptor, bits: u32) -> Result<Descriptor, Break> {
        if descriptor.has(bits) {
            return Ok(descriptor);
        }
        if let Some(address) = self.descriptor_address(selector) {
            let linear = GuestLinear(address.wrapping_add(5) & 0xffff_ffff);
            let place = self.machine.place(linear, 1, Access::Write)?;
            match self.update(&Location::Memory(place), 1, true, |byte| byte | u64::from(bits)) {
                // Other processors kept changing the word: the bit is the guest's loss.
                Ok(_) | Err(Break::Again) => (),
                Err(stop) => return Err(stop),
            }
        }
        Ok(Descriptor(descriptor.0 | u64::from(bits) << 40))
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn fields() {
        let descriptor = Descriptor(0x12cf_9a34_5678_ffff);
        assert_eq!(descriptor.base(), 0x1234_5678);
        assert_eq!(descriptor.limit(), 0xffff_ffff);
        assert_eq!(descriptor.access(), 0xc09a);
        assert!(descriptor.is_code());
        assert_eq!(Descriptor(0x0000_f200_0000_1234).limit(), 0x1234);
        assert_eq!(Descriptor(0x0000_f200_0000_1234).privilege(), 3);
    }
}
