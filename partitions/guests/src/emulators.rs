//! Where the emulators that these guests run in without a monitor differ from the manuals: QEMU 7.2 (TCG) and Bochs 2.7.

use crate::machine::{cpuid, text};
use crate::modes::{Mode, Model};

/// What the guest runs on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Platform {
    /// QEMU's emulation: its APIC delivers illegal vectors and knows no error for them, and knows no broadcast to clusters.
    Qemu,
    /// No hypervisor. If that is Bochs, EDX holds no signature at the start, and its APIC reports errors by no interrupt, takes
    /// interrupts while it is disabled, leaves x2APIC mode at INIT, keeps a deadline that is over, and has lowest priority by
    /// logical addresses alone.
    Bare,
    /// Anything else, which must be right.
    Monitor,
}

impl Platform {
    /// Finds out.
    pub fn detect() -> Self {
        if cpuid(1, 0).ecx >> 31 == 0 {
            return Self::Bare;
        }
        let leaf = cpuid(0x4000_0000, 0);
        match text([leaf.ebx, leaf.ecx, leaf.edx]).as_str() {
            "TCGTCGTCGTCG" => Self::Qemu,
            _ => Self::Monitor,
        }
    }
    /// Whether interrupts can be addressed so.
    pub fn has(self, mode: Mode, model: Model) -> bool {
        match self {
            Self::Qemu => (mode, model) != (Mode::LogicalBroadcast, Model::Cluster),
            Self::Bare => mode != Mode::LowestPhysical,
            Self::Monitor => true,
        }
    }
}
