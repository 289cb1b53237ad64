//! STOS, LODS, MOVS, CMPS and SCAS, alone or repeated.

use super::alu;
use super::execute::Progress;
use super::instruction::{Alu, Decoded, Repeat, StringOperation};
use super::operand::Machine;
use super::registers::{flags, is_stepping, mask, read_register, write_flags, write_register};
use super::walk::Access;
use super::{Mmio, Stop};
use crate::memory::GuestMemory;
use bulkhead_abi::{register, segment};

/// Iterations of a repeated instruction before the guest is entered again, so that interrupts are not kept waiting.
pub const BATCH: u32 = 1024;

const RAX: u8 = register::RAX as u8;
const RCX: u8 = register::RCX as u8;
const RSI: u8 = register::RSI as u8;
const RDI: u8 = register::RDI as u8;

/// Iterations that may be done now: one, if there is something to do after each.
pub fn batch<M: GuestMemory, D: Mmio>(machine: &Machine<'_, M, D>) -> u32 {
    if D::STEPWISE || is_stepping(machine.state) { 1 } else { BATCH }
}

/// Moves an index register by one element, in the direction that DF says.
pub fn step<M: GuestMemory, D: Mmio>(machine: &mut Machine<'_, M, D>, index: u8, address_width: u8, size: u8) {
    let value = read_register(machine.state, index);
    let next = if machine.state.rflags & flags::DF == 0 {
        value.wrapping_add(u64::from(size))
    } else {
        value.wrapping_sub(u64::from(size))
    };
    write_register(machine.state, index, address_width, next);
}

/// Executes up to [`batch`] iterations. An exception in one leaves the registers as the iterations before it left them.
pub fn execute<M: GuestMemory, D: Mmio>(
    machine: &mut Machine<'_, M, D>,
    decoded: &Decoded,
    operation: StringOperation,
) -> Result<Progress, Stop> {
    let address_width = decoded.address_width;
    if decoded.repeat == Repeat::Once {
        iterate(machine, decoded, operation)?;
        return Ok(Progress::Complete);
    }
    for _ in 0..batch(machine) {
        let count = read_register(machine.state, RCX) & mask(address_width);
        if count == 0 {
            return Ok(Progress::Complete);
        }
        iterate(machine, decoded, operation)?;
        write_register(machine.state, RCX, address_width, count - 1);
        if count == 1 {
            return Ok(Progress::Complete);
        }
        if matches!(operation, StringOperation::Compare | StringOperation::Scan) {
            let equal = machine.state.rflags & flags::ZF != 0;
            if equal != (decoded.repeat == Repeat::WhileEqual) {
                return Ok(Progress::Complete);
            }
        }
    }
    Ok(Progress::Partial)
}

fn iterate<M: GuestMemory, D: Mmio>(
    machine: &mut Machine<'_, M, D>,
    decoded: &Decoded,
    operation: StringOperation,
) -> Result<(), Stop> {
    let (size, address_width) = (decoded.width, decoded.address_width);
    let extra = segment::ES as u8;
    let source_offset = read_register(machine.state, RSI) & mask(address_width);
    let target_offset = read_register(machine.state, RDI) & mask(address_width);
    let source_segment = decoded.memory.segment;
    match operation {
        StringOperation::Store => {
            let target = machine.locate(extra, target_offset, size, Access::Write)?;
            let value = read_register(machine.state, RAX);
            machine.write(&target, value);
            step(machine, RDI, address_width, size);
        }
        StringOperation::Load => {
            let source = machine.locate(source_segment, source_offset, size, Access::Read)?;
            let value = machine.read(&source);
            write_register(machine.state, RAX, size, value);
            step(machine, RSI, address_width, size);
        }
        StringOperation::Move => {
            let source = machine.locate(source_segment, source_offset, size, Access::Read)?;
            let target = machine.locate(extra, target_offset, size, Access::Write)?;
            let value = machine.read(&source);
            machine.write(&target, value);
            step(machine, RSI, address_width, size);
            step(machine, RDI, address_width, size);
        }
        StringOperation::Compare | StringOperation::Scan => {
            let left = if operation == StringOperation::Scan {
                None
            } else {
                Some(machine.locate(source_segment, source_offset, size, Access::Read)?)
            };
            let right = machine.locate(extra, target_offset, size, Access::Read)?;
            let left = match left {
                Some(place) => machine.read(&place),
                None => read_register(machine.state, RAX),
            };
            let right = machine.read(&right);
            let (_, after) = alu::compute(Alu::Subtract, left, right, size, 0);
            write_flags(machine.state, flags::ARITHMETIC, after);
            if operation == StringOperation::Compare {
                step(machine, RSI, address_width, size);
            }
            step(machine, RDI, address_width, size);
        }
    }
    Ok(())
}
