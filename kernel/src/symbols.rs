//! The kernel's own symbols, as the boot loader left them in memory, for backtraces.

use crate::memory;
use core::fmt;
use elf::abi::STT_FILE;
use elf::endian::LittleEndian;
use elf::file::Class;
use elf::string_table::StringTable;
use elf::symbol::SymbolTable;
use rustc_demangle::demangle;
use spin::Once;

static TABLES: Once<(SymbolTable<'static, LittleEndian>, StringTable<'static>)> = Once::new();

/// Keeps the tables: (address, bytes) of symbols and strings.
///
/// # Safety
/// Both ranges must be mapped and stay unchanged for ever.
pub unsafe fn keep(symbols: (u64, u64), strings: (u64, u64)) {
    // SAFETY: the caller promises the ranges.
    let bytes = |(start, length)| unsafe { core::slice::from_raw_parts(start as *const u8, length as usize) };
    let tables = (SymbolTable::new(LittleEndian, Class::ELF64, bytes(symbols)), StringTable::new(bytes(strings)));
    TABLES.call_once(|| tables);
}

/// The function that holds an address, in a form that prints readable, and the offset in it.
pub fn name_of(address: u64) -> Option<(impl fmt::Display, u64)> {
    let (symbols, strings) = TABLES.get()?;
    let symbol = symbols
        .iter()
        .filter(|symbol| !symbol.is_undefined() && symbol.st_symtype() != STT_FILE && symbol.st_value <= address)
        .filter(|symbol| symbol.st_size == 0 || address - symbol.st_value < symbol.st_size)
        .max_by_key(|symbol| (symbol.st_value, symbol.st_size))?;
    let name = strings.get(symbol.st_name as usize).ok()?;
    Some((demangle(name), address - symbol.st_value))
}

/// The function that a word on the stack returns to, if it follows a call instruction in the kernel's text.
pub fn return_address(value: u64) -> Option<(impl fmt::Display, u64)> {
    let text = memory::text_range();
    if value < text.start + 8 || value >= text.end {
        return None;
    }
    let mut before = [0u8; 7];
    for (index, byte) in before.iter_mut().enumerate() {
        // SAFETY: the seven bytes before the address lie in the kernel's text.
        *byte = unsafe { ((value - 7 + index as u64) as *const u8).read() };
    }
    let is_indirect = |pair: &[u8]| matches!(pair, [0xff, operand] if operand & 0x38 == 0x10);
    let is_call = matches!(before, [_, _, 0xe8, ..] | [0xff, ..]) || before.windows(2).skip(2).any(is_indirect);
    if !is_call {
        return None;
    }
    // The call may be its function's last instruction.
    name_of(value - 1).map(|(name, offset)| (name, offset + 1))
}
