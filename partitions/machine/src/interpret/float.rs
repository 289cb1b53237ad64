//! The x87 instructions with which start-up code looks for the unit, and puts it into its first state.
//!
//! There is no x87 state here; the unit is always as FNINIT leaves it, which is what guests find when the hardware takes over.

use super::interpreter::Interpreter;
use super::{Break, Environment, vector};
use crate::memory::GuestMemory;
use iced_x86::{Instruction, Mnemonic};

/// CR0.MP, EM, TS.
const MONITOR: u64 = 1 << 1;
const EMULATION: u64 = 1 << 2;
const TASK_SWITCHED: u64 = 1 << 3;
/// Control word after FNINIT: all exceptions masked, 64-bit precision (SDM vol. 1, 8.1.5).
const CONTROL_WORD: u64 = 0x37f;
const STATUS_WORD: u64 = 0;

impl<M: GuestMemory, E: Environment> Interpreter<'_, M, E> {
    /// FNINIT, FNCLEX, FNSTCW, FNSTSW, FLDCW of the initial control word, WAIT; other instructions are not interpreted.
    pub fn float(&mut self, instruction: &Instruction) -> Result<(), Break> {
        let cr0 = self.machine.state.cr0;
        let unavailable = match instruction.mnemonic() {
            Mnemonic::Wait => cr0 & (MONITOR | TASK_SWITCHED) == MONITOR | TASK_SWITCHED,
            _ => cr0 & (EMULATION | TASK_SWITCHED) != 0,
        };
        if unavailable {
            return Err(Break::plain(vector::DEVICE_NOT_AVAILABLE));
        }
        match instruction.mnemonic() {
            Mnemonic::Wait | Mnemonic::Fninit | Mnemonic::Fnclex => Ok(()),
            Mnemonic::Fnstcw => self.store(instruction, 0, CONTROL_WORD),
            Mnemonic::Fnstsw => self.store(instruction, 0, STATUS_WORD),
            Mnemonic::Fldcw if self.value(instruction, 0)? == CONTROL_WORD => Ok(()),
            _ => Err(Break::Unsupported),
        }
    }
}
