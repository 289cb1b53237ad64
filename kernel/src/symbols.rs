//! The kernel's own symbols, as the boot loader left them in memory, for backtraces.

use core::fmt;
use rustc_demangle::demangle;
use spin::Once;

/// An ELF64 symbol (ELF specification, symbol table).
#[repr(C)]
struct Symbol {
    name: u32,
    info: u8,
    other: u8,
    section: u16,
    value: u64,
    size: u64,
}

struct Tables {
    symbols: &'static [Symbol],
    strings: &'static [u8],
}

static TABLES: Once<Tables> = Once::new();

unsafe extern "C" {
    static text_start: [u8; 0];
    static text_end: [u8; 0];
}

/// A name that prints readable.
pub struct Name(&'static str);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", demangle(self.0))
    }
}

/// Keeps the tables: (address, bytes) of symbols and strings.
///
/// # Safety
/// Both ranges must be mapped and stay unchanged for ever.
pub unsafe fn keep(symbols: (u64, u64), strings: (u64, u64)) {
    let count = symbols.1 as usize / size_of::<Symbol>();
    // SAFETY: the caller promises the ranges; a symbol is plain data, and GRUB aligns sections.
    let tables = unsafe {
        Tables {
            symbols: core::slice::from_raw_parts(symbols.0 as *const Symbol, count),
            strings: core::slice::from_raw_parts(strings.0 as *const u8, strings.1 as usize),
        }
    };
    TABLES.call_once(|| tables);
}

/// The function that holds an address, and the offset in it.
pub fn name_of(address: u64) -> Option<(Name, u64)> {
    let tables = TABLES.get()?;
    let symbol = tables
        .symbols
        .iter()
        .filter(|symbol| symbol.section != 0 && symbol.info & 0xf != 4 && symbol.value <= address)
        .filter(|symbol| symbol.size == 0 || address - symbol.value < symbol.size)
        .max_by_key(|symbol| (symbol.value, symbol.size))?;
    let bytes = tables.strings.get(symbol.name as usize..)?;
    let end = bytes.iter().position(|byte| *byte == 0)?;
    let name = core::str::from_utf8(bytes.get(..end)?).ok()?;
    Some((Name(name), address - symbol.value))
}

/// The function that a word on the stack returns to, if it follows a call instruction in the kernel's text.
pub fn return_address(value: u64) -> Option<(Name, u64)> {
    let start = (&raw const text_start) as u64;
    let end = (&raw const text_end) as u64;
    if value < start + 8 || value >= end {
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

/// Whether an address lies on a page that a kernel stack may use.
pub fn is_kernel_stack(address: u64) -> bool {
    crate::memory::layout::is_stack(address)
}
