//! Runs, instruction by instruction, the guest code that the hardware cannot run.
//!
//! Without the VM-execution control "unrestricted guest", VMX keeps CR0.PE and CR0.PG at 1 in a guest (SDM vol. 3, 24.8). Real mode
//! and protected mode without paging are what every processor starts in; here they are software. An interpreter instead of
//! virtual-8086 mode, which lacks a third of it: big segments, privileged instructions, and all of protected mode.
//!
//! To the caller, [`run`] is what a VM entry is: it takes the guest's state with the event to inject and the windows to watch for,
//! and returns with a reason.
//!
//! ```
//! use bulkhead_abi::VcpuState;
//! use bulkhead_machine::interpret::{self, Environment, InstructionCache, Stopped};
//! use bulkhead_machine::memory::GuestMemory;
//!
//! /// A turn of the loop on a processor without unrestricted guests, instead of a VM entry while `interpret::needed(state)`. All
//! /// groups of `state` have been fetched. Whether the guest has halted.
//! fn turn<M: GuestMemory, E: Environment>(
//!     state: &mut VcpuState,
//!     memory: &M,
//!     environment: &mut E,
//!     cache: &mut InstructionCache,
//! ) -> Result<bool, &'static str> {
//!     match interpret::run(state, memory, environment, cache, 1000) {
//!         // The next turn enters the guest.
//!         Stopped::Hardware => Ok(false),
//!         // As after an exit: look at time and devices, decide what to inject.
//!         Stopped::Limit | Stopped::Attention | Stopped::Window => Ok(false),
//!         // Until there is something to inject.
//!         Stopped::Halted => Ok(true),
//!         Stopped::Shutdown => Err("triple fault"),
//!         Stopped::Unsupported { bytes: _ } => Err("an instruction that is not interpreted"),
//!     }
//! }
//! ```
//!
//! What it leaves out, and answers with [`Stopped::Unsupported`]: privilege levels other than 0 (real mode is level 0, and so is code
//! that switches paging off; a return to an outer level is refused), virtual-8086 mode, hardware task switches and call gates,
//! x87 beyond what a processor check uses, SSE. DR0 to DR3 and DR6 are the [`Environment`]'s; breakpoints do not match.
//!
//! A20 is always on. Locked instructions on an aligned word of RAM are atomic against other processors.

mod arithmetic;
mod bits;
mod branch;
mod bulk;
mod compute;
mod control;
mod data;
mod decimal;
mod descriptor;
mod dispatch;
mod entry;
mod event;
mod far;
mod float;
mod interpreter;
mod operand;
mod segments;
mod stack;
mod system;
mod tables;
#[cfg(test)]
mod test;

pub use interpreter::run;

use crate::emulate::cache::{Cache, Cached};
use crate::emulate::decode::{self, DecodeError};
use crate::emulate::{Exception, Mmio, Mode, PortIo, Stop};
use crate::policy::GeneralProtection;
use crate::policy::control::{ControlPolicy, cr0};
use crate::policy::msr::{MsrRead, MsrWrite};
use bulkhead_abi::VcpuState;
use iced_x86::Instruction;

/// What the guest finds around its processor. Addresses that are not RAM go to [`Mmio`]; instructions are fetched there, too, byte
/// by byte.
pub trait Environment: Mmio + PortIo {
    /// What the guest's control registers may hold.
    fn control(&self) -> ControlPolicy;

    /// EAX, EBX, ECX and EDX of CPUID.
    fn cpuid(&mut self, state: &VcpuState, leaf: u32, subleaf: u32) -> [u32; 4];

    /// RDMSR.
    fn read_msr(&mut self, index: u32) -> Result<MsrRead, GeneralProtection>;

    /// WRMSR. The interpreter itself does what [`MsrWrite::State`], [`MsrWrite::Efer`] and [`MsrWrite::TscOffset`] ask for; the rest
    /// is the environment's.
    fn write_msr(&mut self, index: u32, value: u64) -> Result<MsrWrite, GeneralProtection>;

    /// The host's time-stamp counter.
    fn time_stamp(&mut self) -> u64;

    /// Whether the caller must look at something before the next instruction: the machine was switched off, an interrupt came up.
    fn attention(&self) -> bool;

    /// MOV from DR0 to DR3 or DR6, DR7. As for guests that the hardware runs: nothing is set.
    fn read_debug(&mut self, number: u8) -> u32 {
        match number {
            6 => 0xffff_0ff0,
            7 => 0x400,
            _ => 0,
        }
    }

    /// MOV to DR0 to DR3 or DR6, DR7.
    fn write_debug(&mut self, number: u8, value: u32) {
        let _ = (number, value);
    }
}

/// Why a run ended. RIP stands on the instruction to execute next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// CR0.PE and CR0.PG are 1: the hardware can go on, and the state is one that VM entry accepts. An event may still wait for
    /// injection.
    Hardware,
    /// HLT; RIP stands behind it. To run again is to wake the processor.
    Halted,
    /// A window that the state asks for is open.
    Window,
    /// [`Environment::attention`].
    Attention,
    /// The limit is used up.
    Limit,
    /// Triple fault: the processor has shut down.
    Shutdown,
    /// Something that is not interpreted, with the bytes of the instruction.
    Unsupported {
        /// The bytes, zeroes where they could not be read.
        bytes: [u8; 15],
    },
}

/// Whether `state` is one that only unrestricted-guest hardware or the interpreter runs.
#[inline]
pub const fn needed(state: &VcpuState) -> bool {
    const BOTH: u64 = cr0::PE | cr0::PG;
    state.cr0 & BOTH != BOTH
}

/// Recently decoded instructions, for [`run`].
pub type InstructionCache = Cache<Instruction>;

impl Cached for Instruction {
    const ENTRIES: usize = 256;

    fn decode(bytes: &[u8], mode: Mode) -> Result<Self, DecodeError> {
        decode::instruction(bytes, mode)
    }

    #[inline]
    fn length(&self) -> u8 {
        self.len() as u8
    }
}

/// Exception vectors.
mod vector {
    pub const DIVIDE: u8 = 0;
    pub const DEBUG: u8 = 1;
    pub const BREAKPOINT: u8 = 3;
    pub const OVERFLOW: u8 = 4;
    pub const BOUND: u8 = 5;
    pub const INVALID_OPCODE: u8 = 6;
    pub const DEVICE_NOT_AVAILABLE: u8 = 7;
    pub const DOUBLE_FAULT: u8 = 8;
    pub const INVALID_TSS: u8 = 10;
    pub const NOT_PRESENT: u8 = 11;
    pub const STACK: u8 = 12;
    pub const GENERAL_PROTECTION: u8 = 13;
    pub const PAGE_FAULT: u8 = 14;
}

/// An exception, with its error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fault {
    vector: u8,
    code: Option<u32>,
}

/// Why an instruction ends before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Break {
    Fault(Fault),
    Unsupported,
    Shutdown,
    /// It has to be tried again: another processor was at the same word.
    Again,
}

impl Break {
    /// An exception without an error code.
    const fn plain(vector: u8) -> Self {
        Self::Fault(Fault { vector, code: None })
    }

    /// An exception with this error code.
    const fn coded(vector: u8, code: u32) -> Self {
        Self::Fault(Fault { vector, code: Some(code) })
    }

    /// #UD.
    const UNDEFINED: Self = Self::plain(vector::INVALID_OPCODE);
    /// #GP(0).
    const PROTECTION: Self = Self::coded(vector::GENERAL_PROTECTION, 0);
}

impl From<Stop> for Break {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Unsupported => Self::Unsupported,
            Stop::Exception(Exception::Debug) => Self::plain(vector::DEBUG),
            Stop::Exception(Exception::InvalidOpcode) => Self::UNDEFINED,
            Stop::Exception(Exception::StackFault) => Self::coded(vector::STACK, 0),
            Stop::Exception(Exception::GeneralProtection) => Self::PROTECTION,
            Stop::Exception(Exception::PageFault(fault)) => Self::coded(vector::PAGE_FAULT, fault.code),
        }
    }
}

impl From<GeneralProtection> for Break {
    fn from(_: GeneralProtection) -> Self {
        Self::PROTECTION
    }
}
