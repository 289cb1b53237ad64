//! Completes in software the guest instructions that hardware stopped at because of what they access.
//!
//! Everything here works on a [`VcpuState`] with the groups that the exit stored, on the guest's RAM and on a callback for
//! device registers. Hardware has begun each of these instructions and checked it; between then and now another guest processor may
//! have changed the instruction, its operands or the page tables. Whatever is found is therefore judged anew, and no
//! permission that the hardware did not check is taken for granted.

pub(crate) mod alu;
pub(crate) mod cache;
pub(crate) mod decode;
pub(crate) mod execute;
pub(crate) mod fetch;
pub(crate) mod instruction;
mod mmio;
#[cfg(test)]
mod mmio_test;
pub(crate) mod operand;
pub(crate) mod pio;
pub(crate) mod registers;
pub(crate) mod strings;
pub(crate) mod walk;

pub use cache::DecodeCache;
pub use instruction::Mode;
pub use mmio::{Hint, emulate};
pub use pio::{PioExit, PortIo, complete_in, emulate_string_pio};
pub use registers::{advance, is_stepping, privilege, read_register, write_register};
pub use walk::{Access, PageFault, Paging, walk};

use crate::memory::{GuestLinear, GuestPhysical};
use crate::policy::GeneralProtection;
use bulkhead_abi::{StateGroups, VcpuState};

/// Groups of [`VcpuState`] that an emulation may need. Those that an exit stores are enough to begin with, see
/// [`Outcome::Unsupported`].
pub const REQUIRED: StateGroups = StateGroups::RIP
    .union(StateGroups::RFLAGS)
    .union(StateGroups::RSP)
    .union(StateGroups::CONTROL_REGISTERS)
    .union(StateGroups::SEGMENTS);

/// Device registers in guest-physical memory. A guest address that is not RAM ends here, whatever is or is not there.
pub trait Mmio {
    /// Repeated instructions stop after each iteration, for whoever looks at [`accessed`](Self::accessed).
    const STEPWISE: bool = false;

    /// Reads `size` (1, 2, 4 or 8) bytes at `address`, which need not be aligned.
    fn read(&mut self, address: GuestPhysical, size: u8) -> u64;

    /// Writes `size` (1, 2, 4 or 8) bytes at `address`; the rest of `value` is 0.
    fn write(&mut self, address: GuestPhysical, size: u8, value: u64);

    /// Is told of each access to memory, RAM or not, before it is made.
    #[inline]
    fn accessed(&self, _linear: GuestLinear, _size: u8, _access: Access) {}
}

/// An exception that the guest must receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exception {
    /// #DB, as a fault.
    Debug,
    /// #UD.
    InvalidOpcode,
    /// #SS, error code 0.
    StackFault,
    /// #GP, error code 0.
    GeneralProtection,
    /// #PF; its address belongs into CR2.
    PageFault(PageFault),
}

impl Exception {
    /// Asks for the injection of this exception at the next entry. The caller puts the address of a page fault into CR2.
    pub fn inject(&self, state: &mut VcpuState) {
        /// Valid, hardware exception, delivers an error code (SDM vol. 3, 25.8.3).
        const EXCEPTION: u32 = 1 << 31 | 3 << 8;
        const ERROR_CODE: u32 = 1 << 11;
        let (vector, code) = match self {
            Self::Debug => (1, None),
            Self::InvalidOpcode => (6, None),
            Self::StackFault => (12, Some(0)),
            Self::GeneralProtection => (13, Some(0)),
            Self::PageFault(fault) => (14, Some(fault.code)),
        };
        state.injection = EXCEPTION | vector | if code.is_some() { ERROR_CODE } else { 0 };
        state.injection_error_code = code.unwrap_or(0);
        state.dirty |= StateGroups::INJECTION.bits();
        // All of these are faults, which save RFLAGS with RF set (SDM vol. 3, 18.3.1.1).
        registers::write_flags(state, registers::flags::RF, registers::flags::RF);
    }
}

/// How an emulation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The instruction is complete; RIP stands behind it.
    Done,
    /// A repeated instruction has done some of its work; RIP stands on it, and to enter the guest goes on with it.
    Again,
    /// The guest must get this exception; RIP stands on the instruction.
    Exception(Exception),
    /// Nothing has been done: an instruction that this emulator does not know, or whose operand's address needs
    /// [`StateGroups::SEGMENTS`] while that is not valid.
    Unsupported {
        /// Its first bytes, zeroes after the instruction's end in memory.
        bytes: [u8; 15],
    },
}

impl From<GeneralProtection> for Exception {
    fn from(_: GeneralProtection) -> Self {
        Self::GeneralProtection
    }
}

/// Why an emulation stops before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    Exception(Exception),
    Unsupported,
}

impl From<PageFault> for Stop {
    fn from(fault: PageFault) -> Self {
        Self::Exception(Exception::PageFault(fault))
    }
}
