//! Refuses a linked image that holds an SSE, AVX, MMX or x87 instruction.
//!
//! Kernel and vmm switch no floating-point state at an exit of a guest, so one such instruction would corrupt the
//! guest's registers silently. Every executable section is decoded from symbol to symbol.

use std::{fs, path::Path};

use iced_x86::{
    CpuidFeature, Decoder, DecoderOptions, Instruction, InstructionInfoFactory, Mnemonic, Register,
};
use object::{Object, ObjectSection, ObjectSymbol, SectionFlags, elf};

/// What an image may do with floating-point and vector state.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum FloatingPoint {
    /// Nothing at all.
    Forbidden,
    /// Save, restore and initialise it for others, as the kernel does.
    StateManagementOnly,
}

/// Instructions that manage state without computing in it.
const STATE_MANAGEMENT: [Mnemonic; 16] = [
    Mnemonic::Fninit,
    Mnemonic::Fnclex,
    Mnemonic::Fxsave,
    Mnemonic::Fxsave64,
    Mnemonic::Fxrstor,
    Mnemonic::Fxrstor64,
    Mnemonic::Ldmxcsr,
    Mnemonic::Xsave,
    Mnemonic::Xsave64,
    Mnemonic::Xsavec64,
    Mnemonic::Xsaveopt64,
    Mnemonic::Xsaves64,
    Mnemonic::Xrstor,
    Mnemonic::Xrstor64,
    Mnemonic::Xrstors64,
    Mnemonic::Xsetbv,
];

/// Most offending places that one report lists.
const MAX_REPORTED: usize = 20;

/// Checks the image at `path`; the error names each offending place by symbol, address and mnemonic.
pub fn check(path: &Path, allowed: FloatingPoint) -> Result<(), String> {
    let describe = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let bytes = fs::read(path).map_err(|error| describe(&error))?;
    let file = object::File::parse(&*bytes).map_err(|error| describe(&error))?;

    let mut symbols: Vec<(u64, &str)> = file
        .symbols()
        .filter(|symbol| symbol.is_definition())
        .filter_map(|symbol| Some((symbol.address(), symbol.name().ok()?)))
        .collect();
    symbols.sort_unstable();

    let mut offences = Vec::new();
    for section in file.sections() {
        let SectionFlags::Elf { sh_flags } = section.flags() else {
            continue;
        };
        if sh_flags & u64::from(elf::SHF_EXECINSTR) == 0 {
            continue;
        }
        let code = Code {
            start: section.address(),
            bytes: section.data().map_err(|error| describe(&error))?,
            bits: bits_of(section.name().unwrap_or_default()),
        };
        let end = code.start + code.bytes.len() as u64;
        let inside: Vec<_> = symbols
            .iter()
            .filter(|(address, _)| (code.start..end).contains(address))
            .collect();
        let first = inside.first().map_or(end, |(address, _)| *address);
        code.scan(
            "start of section",
            code.start..first,
            allowed,
            &mut offences,
        );
        for (index, (address, name)) in inside.iter().enumerate() {
            let next = inside.get(index + 1).map_or(end, |(address, _)| *address);
            code.scan(name, *address..next, allowed, &mut offences);
        }
    }
    if offences.is_empty() {
        return Ok(());
    }
    let total = offences.len();
    offences.truncate(MAX_REPORTED);
    Err(format!(
        "{}: {total} floating-point or vector instructions, which no guest exit preserves:\n  {}",
        path.display(),
        offences.join("\n  ")
    ))
}

/// Start-up code for other processor modes lives in sections whose names end in their width, as `.boot32`.
fn bits_of(section: &str) -> u32 {
    match section {
        name if name.ends_with("16") => 16,
        name if name.ends_with("32") => 32,
        _ => 64,
    }
}

/// The bytes of one executable section.
struct Code<'a> {
    start: u64,
    bytes: &'a [u8],
    bits: u32,
}

impl Code<'_> {
    /// Decodes `range` and appends a line for each offending instruction.
    fn scan(
        &self,
        symbol: &str,
        range: std::ops::Range<u64>,
        allowed: FloatingPoint,
        offences: &mut Vec<String>,
    ) {
        let offset = |address: u64| (address - self.start) as usize;
        let Some(bytes) = self.bytes.get(offset(range.start)..offset(range.end)) else {
            return;
        };
        let mut decoder = Decoder::with_ip(self.bits, bytes, range.start, DecoderOptions::NONE);
        let mut factory = InstructionInfoFactory::new();
        let mut instruction = Instruction::default();
        while decoder.can_decode() {
            decoder.decode_out(&mut instruction);
            if !touches_vector_state(&instruction, &mut factory) {
                continue;
            }
            if allowed == FloatingPoint::StateManagementOnly
                && STATE_MANAGEMENT.contains(&instruction.mnemonic())
            {
                continue;
            }
            offences.push(format!(
                "{:#x} {:?} in {symbol}",
                instruction.ip(),
                instruction.mnemonic()
            ));
        }
    }
}

/// Whether an instruction reads or writes x87, MMX, SSE, AVX or mask registers, by name or implicitly.
fn touches_vector_state(instruction: &Instruction, factory: &mut InstructionInfoFactory) -> bool {
    let is_vector = |register: Register| {
        register.is_vector_register()
            || register.is_mm()
            || register.is_st()
            || register.is_k()
            || register.is_tmm()
    };
    instruction.cpuid_features().iter().any(|feature| {
        matches!(
            feature,
            CpuidFeature::FPU
                | CpuidFeature::FPU287
                | CpuidFeature::FPU387
                | CpuidFeature::MMX
                | CpuidFeature::FXSR
                | CpuidFeature::XSAVE
                | CpuidFeature::XSAVEC
                | CpuidFeature::XSAVEOPT
                | CpuidFeature::XSAVES
        )
    }) || matches!(
        instruction.mnemonic(),
        Mnemonic::Ldmxcsr | Mnemonic::Stmxcsr
    ) || factory
        .info(instruction)
        .used_registers()
        .iter()
        .any(|used| is_vector(used.register()))
}
