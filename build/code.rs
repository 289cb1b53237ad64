//! The machine code of a linked image, function by function.

use std::{fs, path::Path};

use iced_x86::{Decoder, DecoderOptions, Instruction};
use object::{Object, ObjectSection, ObjectSymbol, SectionFlags, elf};

/// The code between one symbol and the next.
pub struct Function {
    /// The symbol's name, demangled.
    pub name: String,
    /// Virtual address.
    pub start: u64,
    bytes: Vec<u8>,
    bits: u32,
}

impl Function {
    /// Decodes it from its start to its end.
    pub fn instructions(&self) -> impl Iterator<Item = Instruction> {
        Decoder::with_ip(self.bits, &self.bytes, self.start, DecoderOptions::NONE).into_iter()
    }
}

/// Reads every executable section of the image at `path`.
pub fn functions(path: &Path) -> Result<Vec<Function>, String> {
    let describe = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let bytes = fs::read(path).map_err(|error| describe(&error))?;
    let file = object::File::parse(&*bytes).map_err(|error| describe(&error))?;

    let mut symbols: Vec<(u64, &str)> = file
        .symbols()
        .filter(|symbol| symbol.is_definition())
        .filter_map(|symbol| Some((symbol.address(), symbol.name().ok()?)))
        .filter(|(_, name)| !name.is_empty())
        .collect();
    symbols.sort_unstable();
    symbols.dedup_by_key(|(address, _)| *address);

    let mut functions = Vec::new();
    for section in file.sections() {
        let SectionFlags::Elf { sh_flags } = section.flags() else {
            continue;
        };
        if sh_flags & u64::from(elf::SHF_EXECINSTR) == 0 {
            continue;
        }
        let name = section.name().map_err(|error| describe(&error))?;
        let code = section.data().map_err(|error| describe(&error))?;
        let (start, end) = (section.address(), section.address() + code.len() as u64);
        let mut places = vec![(start, name)];
        places.extend(symbols.iter().filter(|(address, _)| (start..end).contains(address)));
        for (index, (address, name)) in places.iter().enumerate() {
            let next = places.get(index + 1).map_or(end, |(address, _)| *address);
            let range = (address - start) as usize..(next - start) as usize;
            functions.push(Function {
                name: format!("{:#}", rustc_demangle::demangle(name)),
                start: *address,
                bytes: code[range].to_vec(),
                bits: bits_of(section.name().unwrap_or_default()),
            });
        }
    }
    Ok(functions)
}

/// Start-up code for other processor modes lives in sections whose names end in their width, as `.boot32`.
fn bits_of(section: &str) -> u32 {
    match section {
        name if name.ends_with("16") => 16,
        name if name.ends_with("32") => 32,
        _ => 64,
    }
}
