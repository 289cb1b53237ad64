//! Descriptor-table registers, the task register, and the instructions that ask about descriptors.

use super::descriptor::{Descriptor, access, is_null, not_present, protection, system};
use super::interpreter::Interpreter;
use super::{Break, Environment};
use crate::emulate::Access;
use crate::emulate::registers::{flags, mask, write_flags};
use crate::memory::GuestMemory;
use bulkhead_abi::{Segment, segment};
use iced_x86::{Code, Instruction, Mnemonic, OpKind};

/// The bytes of a table register in memory: limit, base.
const PSEUDO_DESCRIPTOR: u8 = 6;

impl<M: GuestMemory, E: Environment> Interpreter<'_, M, E> {
    /// LGDT, LIDT. With 16-bit operands, a base has 24 bits.
    pub fn load_table(&mut self, instruction: &Instruction) -> Result<(), Break> {
        let value = self.read_at(self.address(instruction)?, PSEUDO_DESCRIPTOR)?;
        let short = matches!(instruction.code(), Code::Lgdt_m1632_16 | Code::Lidt_m1632_16);
        let base = value >> 16 & mask(if short { 3 } else { 4 });
        let table = Segment { base, limit: value as u32 & 0xffff, access: 0, selector: 0 };
        let state = &mut *self.machine.state;
        if instruction.mnemonic() == Mnemonic::Lgdt {
            state.gdtr = table;
        } else {
            state.idtr = table;
        }
        Ok(())
    }

    /// SGDT, SIDT. All 32 bits of the base are stored in any case, as processors do.
    pub fn store_table(&mut self, instruction: &Instruction) -> Result<(), Break> {
        let state = &*self.machine.state;
        let table = if instruction.mnemonic() == Mnemonic::Sgdt { state.gdtr } else { state.idtr };
        let value = u64::from(table.limit & 0xffff) | (table.base & mask(4)) << 16;
        self.write_at(self.address(instruction)?, PSEUDO_DESCRIPTOR, value)
    }

    /// #UD in real mode, where there are no descriptors.
    fn require_protected(&self) -> Result<(), Break> {
        if self.is_protected() { Ok(()) } else { Err(Break::UNDEFINED) }
    }

    /// SLDT, STR.
    pub fn store_selector(&mut self, instruction: &Instruction, index: usize) -> Result<(), Break> {
        self.require_protected()?;
        let selector = self.machine.state.segments[index & 7].selector;
        self.store(instruction, 0, selector)
    }

    /// The descriptor of a system segment in the GDT.
    fn system_descriptor(&mut self, selector: u16, kinds: [u32; 2]) -> Result<Descriptor, Break> {
        const LOCAL: u16 = 1 << 2;
        if selector & LOCAL != 0 {
            return Err(protection(selector));
        }
        let descriptor = self.descriptor(selector)?;
        if descriptor.has(access::ORDINARY) || !kinds.contains(&descriptor.kind()) {
            return Err(protection(selector));
        }
        if descriptor.has(access::PRESENT) { Ok(descriptor) } else { Err(not_present(selector)) }
    }

    /// LLDT.
    pub fn load_local_table(&mut self, instruction: &Instruction) -> Result<(), Break> {
        self.require_protected()?;
        let selector = self.value(instruction, 0)? as u16;
        let table = if is_null(selector) {
            Segment { base: 0, limit: 0, access: access::UNUSABLE, selector: selector.into() }
        } else {
            self.system_descriptor(selector, [system::LDT; 2])?.segment(selector)
        };
        self.machine.state.segments[segment::LDTR] = table;
        Ok(())
    }

    /// LTR.
    pub fn load_task(&mut self, instruction: &Instruction) -> Result<(), Break> {
        self.require_protected()?;
        let selector = self.value(instruction, 0)? as u16;
        if is_null(selector) {
            return Err(Break::PROTECTION);
        }
        let descriptor = self.system_descriptor(selector, [system::TSS_16, system::TSS_32])?;
        let busy = self.mark_descriptor(selector, descriptor, system::BUSY)?;
        self.machine.state.segments[segment::TR] = busy.segment(selector);
        Ok(())
    }

    /// LAR, LSL, VERR, VERW: ZF says whether the selector in the last operand stands the question.
    pub fn ask(&mut self, instruction: &Instruction) -> Result<(), Break> {
        self.require_protected()?;
        let source = instruction.op_count().saturating_sub(1);
        let selector = match instruction.op_kind(source) {
            // Of memory, only a word is read.
            OpKind::Memory => self.read_at(self.address(instruction)?, 2)?,
            _ => self.value(instruction, source)?,
        } as u16;
        let mnemonic = instruction.mnemonic();
        let found = if is_null(selector) { None } else { self.find_descriptor(selector)? };
        let answer = found.filter(|descriptor| answers(mnemonic, *descriptor, selector));
        if let Some(descriptor) = answer {
            match mnemonic {
                Mnemonic::Lar => self.store(instruction, 0, descriptor.0 >> 32 & 0x00ff_ff00)?,
                Mnemonic::Lsl => self.store(instruction, 0, descriptor.limit().into())?,
                _ => (),
            }
        }
        write_flags(self.machine.state, flags::ZF, if answer.is_some() { flags::ZF } else { 0 });
        Ok(())
    }

    /// ARPL.
    pub fn adjust_requested_level(&mut self, instruction: &Instruction) -> Result<(), Break> {
        self.require_protected()?;
        let location = self.location(instruction, 0, 2, Access::Write)?;
        let selector = self.read(&location, 2);
        let level = self.value(instruction, 1)? & 3;
        let lower = selector & 3 < level;
        if lower {
            self.write(&location, 2, selector & !3 | level);
        }
        write_flags(self.machine.state, flags::ZF, if lower { flags::ZF } else { 0 });
        Ok(())
    }
}

/// Whether code at level 0 gets an answer about `descriptor` (SDM vol. 2, LAR, LSL, VERR).
fn answers(mnemonic: Mnemonic, descriptor: Descriptor, selector: u16) -> bool {
    const TSS_16_BUSY: u32 = system::TSS_16 | system::BUSY;
    const TSS_32_BUSY: u32 = system::TSS_32 | system::BUSY;
    let visible = selector & 3 <= descriptor.privilege();
    let with_limit =
        [system::TSS_16, system::LDT, TSS_16_BUSY, system::TSS_32, TSS_32_BUSY].contains(&descriptor.kind());
    let gate = [system::CALL_GATE_16, system::TASK_GATE, system::CALL_GATE_32].contains(&descriptor.kind());
    if !descriptor.has(access::ORDINARY) {
        return visible
            && match mnemonic {
                Mnemonic::Lar => with_limit || gate,
                Mnemonic::Lsl => with_limit,
                _ => false,
            };
    }
    let code = descriptor.is_code();
    let visible = visible || code && descriptor.has(access::CONFORMING);
    visible
        && match mnemonic {
            Mnemonic::Verr => !code || descriptor.has(access::WRITABLE),
            Mnemonic::Verw => !code && descriptor.has(access::WRITABLE),
            _ => true,
        }
}
