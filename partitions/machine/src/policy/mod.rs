//! Which processor features, model-specific registers and control-register values a guest is given.

pub mod control;
pub mod cpuid;
pub mod debug;
pub mod features;
pub mod listed;
pub mod msr;
pub mod mtrr;
pub mod state;
pub mod withheld;

/// The access raises #GP(0) in the guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GeneralProtection;
