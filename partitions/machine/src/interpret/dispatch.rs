//! From a decoded instruction to what executes it.

use super::data::string_port;
use super::interpreter::{Completion, Interpreter};
use super::{Break, Environment, vector};
use crate::emulate::decode::{condition_of, operation_of};
use crate::emulate::instruction::{Alu, Operation};
use crate::emulate::registers::flags;
use crate::memory::GuestMemory;
use bulkhead_abi::segment;
use iced_x86::{Instruction, Mnemonic};

impl<M: GuestMemory, E: Environment> Interpreter<'_, M, E> {
    /// Executes one instruction.
    pub fn execute(&mut self, instruction: &Instruction) -> Result<Completion, Break> {
        match operation_of(instruction.mnemonic()) {
            Some(Operation::String(_)) => self.string(instruction),
            Some(operation) => self.execute_shared(instruction, operation).map(|()| Completion::Next),
            None => self.execute_control(instruction),
        }
    }

    /// What the emulation of single instructions knows, too.
    fn execute_shared(&mut self, instruction: &Instruction, operation: Operation) -> Result<(), Break> {
        match operation {
            Operation::Move => self.mov(instruction),
            Operation::MoveZeroExtend => self.move_extended(instruction, false),
            Operation::MoveSignExtend => self.move_extended(instruction, true),
            Operation::MoveSwapped => self.move_swapped(instruction),
            Operation::Alu(operation) => self.binary(instruction, operation),
            Operation::Compare(operation) => self.compare(instruction, operation),
            Operation::Increment => self.count(instruction, Alu::Add),
            Operation::Decrement => self.count(instruction, Alu::Subtract),
            Operation::Not => self.not(instruction),
            Operation::Negate => self.negate(instruction),
            Operation::Exchange => self.exchange(instruction),
            Operation::ExchangeAdd => self.exchange_add(instruction),
            Operation::CompareExchange => self.compare_exchange(instruction),
            Operation::CompareExchange8Bytes => self.compare_exchange_8_bytes(instruction),
            Operation::BitTest(change) => self.bit_test(instruction, change),
            Operation::Shift(operation) => self.shift(instruction, operation),
            Operation::MultiplySigned => self.multiply(instruction, true),
            Operation::ConditionalMove(condition) => self.move_if(instruction, condition),
            Operation::ConditionalSet(condition) => self.set_if(instruction, condition),
            Operation::Push => self.push_operand(instruction),
            Operation::Pop => self.pop_operand(instruction),
            Operation::Nothing => Ok(()),
            Operation::String(_) => Err(Break::Unsupported),
        }
    }

    /// Transfers of control, and all that may end otherwise than by going on with the next instruction.
    fn execute_control(&mut self, instruction: &Instruction) -> Result<Completion, Break> {
        use Mnemonic as M;
        let mnemonic = instruction.mnemonic();
        if let Some((input, size)) = string_port(mnemonic) {
            return self.port_string(instruction, input, size);
        }
        if let Some(condition) = condition_of(mnemonic) {
            return self.jump_if(instruction, condition).map(|()| Completion::Next);
        }
        match mnemonic {
            M::Jmp => match self.far_pointer(instruction)? {
                Some((selector, offset, _)) => self.far_jump(selector, offset),
                None => self.near_jump(instruction),
            },
            M::Call => match self.far_pointer(instruction)? {
                Some((selector, offset, width)) => self.far_call(selector, offset, width),
                None => self.near_call(instruction),
            },
            M::Ret => self.near_return(instruction),
            M::Retf => self.far_return(instruction),
            M::Loop | M::Loope | M::Loopne => self.count_down(instruction),
            M::Jcxz | M::Jecxz => self.jump_if_none_left(instruction),
            M::Iret | M::Iretd => return self.interrupt_return(instruction),
            M::Int => return self.interrupt(instruction.immediate8()),
            M::Int3 => return self.interrupt(vector::BREAKPOINT),
            M::Int1 => return self.interrupt(vector::DEBUG),
            M::Into if self.machine.state.rflags & flags::OF != 0 => return self.interrupt(vector::OVERFLOW),
            M::Into => Ok(()),
            M::Hlt => return Ok(Completion::Halt),
            _ => self.execute_plain(instruction),
        }
        .map(|()| Completion::Next)
    }

    fn execute_plain(&mut self, instruction: &Instruction) -> Result<(), Break> {
        use Mnemonic as M;
        match instruction.mnemonic() {
            M::Lea => self.load_address(instruction)?,
            M::Xlatb => self.translate(instruction)?,
            M::Cbw | M::Cwde | M::Cwd | M::Cdq => self.convert_sign(instruction.mnemonic()),
            M::Bswap => self.byte_swap(instruction)?,
            M::Rcl => self.rotate_through_carry(instruction, true)?,
            M::Rcr => self.rotate_through_carry(instruction, false)?,
            M::Shld => self.double_shift(instruction, true)?,
            M::Shrd => self.double_shift(instruction, false)?,
            M::Mul => self.multiply(instruction, false)?,
            M::Div => self.divide(instruction, false)?,
            M::Idiv => self.divide(instruction, true)?,
            // Processors without unrestricted guests do not know TZCNT and LZCNT: they execute the scans without the prefix.
            M::Bsf | M::Tzcnt => self.bit_scan(instruction, false)?,
            M::Bsr | M::Lzcnt => self.bit_scan(instruction, true)?,
            M::Popcnt => self.population_count(instruction)?,
            M::Daa => self.adjust_packed(false),
            M::Das => self.adjust_packed(true),
            M::Aaa => self.adjust_unpacked(false),
            M::Aas => self.adjust_unpacked(true),
            M::Aam => self.adjust_after_multiplication(instruction.immediate8())?,
            M::Aad => self.adjust_before_division(instruction.immediate8()),
            M::Bound => self.bound(instruction)?,
            M::Pusha => self.push_all(2)?,
            M::Pushad => self.push_all(4)?,
            M::Popa => self.pop_all(2)?,
            M::Popad => self.pop_all(4)?,
            M::Pushf => self.push_flags(2)?,
            M::Pushfd => self.push_flags(4)?,
            M::Popf => self.pop_flags(2)?,
            M::Popfd => self.pop_flags(4)?,
            M::Enter => self.enter(instruction)?,
            M::Leave => self.leave(instruction)?,
            M::In => self.port_in(instruction)?,
            M::Out => self.port_out(instruction)?,
            M::Lds => self.load_far_pointer(instruction, segment::DS)?,
            M::Les => self.load_far_pointer(instruction, segment::ES)?,
            M::Lfs => self.load_far_pointer(instruction, segment::FS)?,
            M::Lgs => self.load_far_pointer(instruction, segment::GS)?,
            M::Lss => self.load_far_pointer(instruction, segment::SS)?,
            _ => return self.execute_flag(instruction),
        }
        Ok(())
    }

    fn execute_flag(&mut self, instruction: &Instruction) -> Result<(), Break> {
        use Mnemonic as M;
        match instruction.mnemonic() {
            M::Clc => self.set_flag(flags::CF, false),
            M::Stc => self.set_flag(flags::CF, true),
            M::Cmc => self.set_flag(flags::CF, self.machine.state.rflags & flags::CF == 0),
            M::Cld => self.set_flag(flags::DF, false),
            M::Std => self.set_flag(flags::DF, true),
            M::Cli => self.disable_interrupts(),
            M::Sti => self.enable_interrupts(),
            M::Lahf => self.load_flags(),
            M::Salc => self.set_by_carry(),
            M::Sahf => self.store_flags(),
            // Caches are coherent, nothing is reordered, and hints are not followed.
            M::Pause
            | M::Wbinvd
            | M::Invd
            | M::Invlpg
            | M::Lfence
            | M::Mfence
            | M::Sfence
            | M::Endbr32
            | M::Endbr64
            | M::Prefetch
            | M::Prefetchwt1
            | M::Reservednop => {}
            _ => return self.execute_system(instruction),
        }
        Ok(())
    }

    fn execute_system(&mut self, instruction: &Instruction) -> Result<(), Break> {
        use Mnemonic as M;
        match instruction.mnemonic() {
            M::Lgdt | M::Lidt => self.load_table(instruction),
            M::Sgdt | M::Sidt => self.store_table(instruction),
            M::Lldt => self.load_local_table(instruction),
            M::Ltr => self.load_task(instruction),
            M::Sldt => self.store_selector(instruction, segment::LDTR),
            M::Str => self.store_selector(instruction, segment::TR),
            M::Lar | M::Lsl | M::Verr | M::Verw => self.ask(instruction),
            M::Arpl => self.adjust_requested_level(instruction),
            M::Lmsw => self.load_machine_status(instruction),
            M::Smsw => self.store_machine_status(instruction),
            M::Clts => self.clear_task_switched(),
            M::Xgetbv => self.read_extended_control(),
            M::Xsetbv => self.write_extended_control(),
            M::Rdmsr => self.read_msr(),
            M::Wrmsr => self.write_msr(),
            M::Cpuid => {
                self.identify();
                Ok(())
            }
            M::Rdtsc => {
                self.read_time_stamp();
                Ok(())
            }
            M::Rdpmc => Err(Break::PROTECTION),
            // The guest is told that there are no such instructions.
            M::Ud0
            | M::Ud1
            | M::Ud2
            | M::Rsm
            | M::Monitor
            | M::Mwait
            | M::Getsec
            | M::Vmcall
            | M::Vmlaunch
            | M::Vmresume
            | M::Vmxoff
            | M::Vmxon
            | M::Vmptrld
            | M::Vmptrst
            | M::Vmclear
            | M::Vmread
            | M::Vmwrite
            | M::Sysret
            | M::Syscall => Err(Break::UNDEFINED),
            M::Wait | M::Fninit | M::Fnclex | M::Fnstcw | M::Fnstsw | M::Fldcw => self.float(instruction),
            _ => Err(Break::Unsupported),
        }
    }
}
