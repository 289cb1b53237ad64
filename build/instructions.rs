//! Refuses a linked image that holds an SSE, AVX, MMX or x87 instruction.
//!
//! Kernel and vmm switch no floating-point state at an exit of a guest, so one such instruction would corrupt the
//! guest's registers silently.

use std::path::Path;

use iced_x86::{CpuidFeature, Instruction, InstructionInfoFactory, Mnemonic, Register};

use crate::code::Function;

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

/// Checks the functions of the image at `path`; the error names each offending place by symbol, address and mnemonic.
pub fn check(path: &Path, functions: &[Function], allowed: FloatingPoint) -> Result<(), String> {
    let mut factory = InstructionInfoFactory::new();
    let mut offences = Vec::new();
    for function in functions {
        for instruction in function.instructions() {
            let mnemonic = instruction.mnemonic();
            let is_allowed = allowed == FloatingPoint::StateManagementOnly && STATE_MANAGEMENT.contains(&mnemonic);
            if !is_allowed && touches_vector_state(&instruction, &mut factory) {
                offences.push(format!("{:#x} {mnemonic:?} in {}", instruction.ip(), function.name));
            }
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

/// Whether an instruction reads or writes x87, MMX, SSE, AVX or mask registers, by name or implicitly.
fn touches_vector_state(instruction: &Instruction, factory: &mut InstructionInfoFactory) -> bool {
    let is_vector = |register: Register| {
        register.is_vector_register() || register.is_mm() || register.is_st() || register.is_k() || register.is_tmm()
    };
    let manages_state = |feature: &CpuidFeature| {
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
    };
    instruction.cpuid_features().iter().any(manages_state)
        || matches!(instruction.mnemonic(), Mnemonic::Ldmxcsr | Mnemonic::Stmxcsr)
        || factory.info(instruction).used_registers().iter().any(|used| is_vector(used.register()))
}
