//! Refuses a kernel in which a panic can be reached from a system call, an exit or an interrupt.
//!
//! Each function that calls into the language's panic machinery must be on the list below, with the reason why no
//! partition, guest or device gets there. Link-time optimisation has removed the checks that cannot fail, so what remains
//! is what the compiler could not prove. A function of `core` that panics passes the blame to its callers. Calls through
//! pointers are not seen: they are those of formatting, which only boot and panics use, and of nothing else in the kernel.

use std::{collections::BTreeSet, path::Path};

use iced_x86::{FlowControl, Instruction};

use crate::code::Function;

/// Functions that may panic: how their names begin, and why nobody gets there.
const EXCEPTIONS: [(&str, &str); 4] = [
    ("kernel_start", "boot: no partition runs yet"),
    ("multiboot2", "boot: reads what the boot loader left"),
    ("acpi::", "boot: reads the firmware's tables"),
    ("spin::once::Once", "initialised at boot, only read later"),
];

/// Checks the functions of the kernel at `path`; the error names each function that panics and is not excepted.
pub fn check(path: &Path, functions: &[Function]) -> Result<(), String> {
    let panicking = panicking_library_functions(functions);
    let offenders: Vec<String> = functions
        .iter()
        .filter(|function| !is_of_library(&function.name) && !is_excepted(&function.name))
        .filter_map(|function| {
            let call = function.instructions().find(|instruction| leads_to(instruction, &panicking))?;
            Some(format!("{:#x} in {}", call.ip(), function.name))
        })
        .collect();
    if offenders.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{}: functions that can panic and have no reason in build/panics.rs why nobody gets there:\n  {}",
        path.display(),
        offenders.join("\n  ")
    ))
}

/// Addresses of the library's functions from which a panic is reached by calls within the library.
fn panicking_library_functions(functions: &[Function]) -> BTreeSet<u64> {
    let (mut panicking, others): (BTreeSet<u64>, Vec<&Function>) = functions
        .iter()
        .filter(|function| is_of_library(&function.name))
        .fold((BTreeSet::new(), Vec::new()), |(mut panicking, mut others), function| {
            if bare(&function.name).starts_with("core::panicking::") {
                panicking.insert(function.start);
            } else {
                others.push(function);
            }
            (panicking, others)
        });
    loop {
        let found: Vec<u64> = others
            .iter()
            .filter(|function| !panicking.contains(&function.start))
            .filter(|function| function.instructions().any(|instruction| leads_to(&instruction, &panicking)))
            .map(|function| function.start)
            .collect();
        if found.is_empty() {
            return panicking;
        }
        panicking.extend(found);
    }
}

/// Whether an instruction calls or jumps to one of `targets`.
fn leads_to(instruction: &Instruction, targets: &BTreeSet<u64>) -> bool {
    let leaves = matches!(
        instruction.flow_control(),
        FlowControl::Call | FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch
    );
    leaves && targets.contains(&instruction.near_branch_target())
}

/// Whether a function is `core`'s or `alloc`'s own, or a method of a built-in type or of any type at all, which only they
/// can have (`<str>::find`, `<&T as core::fmt::Debug>::fmt`).
fn is_of_library(name: &str) -> bool {
    let bare = bare(name);
    let built_in = |kind: &str| kind.starts_with('[') || kind.chars().all(|letter| letter.is_ascii_alphanumeric());
    let of_built_in_type = name.starts_with('<') && bare.split([' ', '>']).next().is_some_and(built_in);
    of_built_in_type || ["core::", "alloc::"].iter().any(|prefix| bare.starts_with(prefix))
}

fn is_excepted(name: &str) -> bool {
    EXCEPTIONS.iter().any(|(prefix, _)| bare(name).starts_with(prefix))
}

/// A name without the signs before its first path, as in `<&T as Trait>::method`.
fn bare(name: &str) -> &str {
    name.trim_start_matches(['<', '&'])
}
