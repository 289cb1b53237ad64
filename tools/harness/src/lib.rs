//! Runs boot images on emulated machines.
//!
//! A [`Run`] says what to boot, on which [`Backend`] and with which hardware; [`Run::execute`] starts the emulator in a
//! process group of its own, carries its serial line in both directions over a pseudo-terminal, ends it at the time
//! limit without fail, and returns a [`Report`]. The report separates how the machine ended ([`End`]) from what the
//! system said about itself on its serial line ([`Verdict`]).
//!
//! Bochs has VMX in software and runs bit-identically each time; QEMU's own emulation has no VMX and serves for
//! whatever needs no guest; QEMU with KVM is used where the host offers VMX to its guests.
//!
//! This crate must never interpret what it boots: images are files to it, and the only text it looks for is the status
//! line.
#![forbid(unsafe_code)]

mod backend;
mod bochs;
mod emulator;
mod error;
mod qemu;
mod report;
mod run;
mod serial;
mod terminal;

pub use backend::{Backend, NestedVmx};
pub use bochs::{cpu_models, has_network_card};
pub use error::HarnessError;
pub use report::{End, Report, Verdict};
pub use run::{Input, NumaNode, PciDevice, Reply, Run};
