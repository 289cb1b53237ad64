//! Random input for everything that reads what a guest, a service or a file says.
//!
//! Owns: the targets ([`TARGETS`]), each a function of bytes that panics if it finds a defect, and the making of inputs ([`Generator`]).
//! Must never: need a nightly compiler. Inputs are deterministic by their seed.
#![forbid(unsafe_code)]

mod block;
mod card;
mod client;
mod console;
mod function;
mod generator;
mod input;
mod loader;
mod memory;
mod plan;
mod processor;
mod ram;
mod switch;
mod virtqueue;

pub use generator::Generator;
pub use input::Input;

use std::panic::{AssertUnwindSafe, catch_unwind};

/// A target: its name, and what an input is given to.
pub type Target = (&'static str, fn(&mut Input<'_>));

/// Every target.
pub const TARGETS: [Target; 10] = [
    ("virtqueue", virtqueue::run),
    ("function", function::run),
    ("block", block::run),
    ("client", client::run),
    ("switch", switch::run),
    ("console", console::run),
    ("plan", plan::run),
    ("loader", loader::run),
    ("emulate", processor::emulate),
    ("interpret", processor::interpret),
];

/// Whether a target bears an input.
pub fn bears((_, run): Target, bytes: &[u8]) -> bool {
    catch_unwind(AssertUnwindSafe(|| run(&mut Input::new(bytes)))).is_ok()
}

/// An input that fails, made shorter as long as it does so.
pub fn minimised(target: Target, bytes: &[u8]) -> Vec<u8> {
    let mut best = bytes.to_vec();
    let mut cut = best.len() / 2;
    while cut != 0 {
        let shorter = best.len().saturating_sub(cut);
        match best.get(..shorter) {
            Some(part) if !bears(target, part) => best = part.to_vec(),
            _ => cut /= 2,
        }
    }
    best
}
