//! Hardware virtualization: guest processors by Intel VMX, guest memory by extended page tables.
//!
//! Owns: the VMX state of every processor, the objects [`Vcpu`] and [`GuestSpace`], and the way into a guest and back.
//! Must never: emulate an instruction, or trust a value of the page that it shares with a monitor.
//!
//! A run is [`Vcpu::run`]: load what the monitor changed, enter, store what the exit needs. What an exit costs is counted in
//! instructions, so each exit stores the least that its monitor can work with; see [`exit`] for what that is.

mod capabilities;
mod controls;
mod cpu;
mod enable;
mod entry;
pub mod exit;
mod fpu;
mod guest_space;
mod host;
mod invalidate;
mod load;
mod msr;
mod page;
mod state;
mod vcpu;
mod vmcs;
mod vpid;

pub use capabilities::{Capabilities, detect};
pub use cpu::VmxCpu;
pub use enable::{EnableError, enable};
pub use exit::Outcome;
pub use guest_space::{Doorbell, GuestSpace};
pub use invalidate::invalidate_guest_space;
pub use vcpu::Vcpu;
pub use vpid::{allocate_vpid, release_vpid};
