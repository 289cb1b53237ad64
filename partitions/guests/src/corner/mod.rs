//! `corner`: the architecture's corner cases, each judged by what the manuals say a processor does (SDM = Intel 64 and IA-32
//! Architectures Software Developer's Manual).
//!
//! A test is a piece of code that runs with chosen registers at CPL 0 or 3, and the events that it must meet, see [`run`].
//! Nothing here knows what machine it runs on: the same checks pass on a bare processor.

mod apic;
mod apic_base;
mod bits;
mod checks;
mod control;
mod debug;
mod descriptors;
mod double_faults;
mod exceptions;
mod extended;
mod floating;
mod global;
mod halts;
mod interrupts;
mod memory;
mod mmio;
mod model_specific;
mod paging;
pub mod paging_log;
mod registers;
pub mod run;
mod segments;
mod step;
mod strings;

use crate::machine;
use crate::println;
use checks::Checks;

/// A name on the command line, and what it checks.
type Area = (&'static str, fn(&mut Checks));

const AREAS: [Area; 16] = [
    ("exceptions", exceptions::run),
    ("floating", floating::run),
    ("paging", paging::run),
    ("double-faults", double_faults::run),
    ("interrupts", interrupts::run),
    ("halts", halts::run),
    ("step", step::run),
    ("debug", debug::run),
    ("control", control::run),
    ("msr", model_specific::run),
    ("strings", strings::run),
    ("mmio", mmio::run),
    ("forms", mmio::forms::run),
    ("segments", segments::run),
    ("extended", extended::run),
    ("apic-base", apic_base::run),
];

/// Runs the named areas, all if none is named, and ends the machine with an error if a check failed.
pub fn run<'a>(names: impl Iterator<Item = &'a str> + Clone) {
    descriptors::install();
    memory::install();
    apic::install();
    let mut checks = Checks::new();
    for (name, area) in AREAS {
        if names.clone().next().is_none() || names.clone().any(|wanted| wanted == name) {
            checks.area(name);
            area(&mut checks);
        }
    }
    let (count, failed) = checks.result();
    println!("corner: {count} checks, {failed} failed");
    if failed != 0 {
        machine::exit(1);
    }
}
