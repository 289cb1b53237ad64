//! Hardware virtualization: guest processors by Intel VMX, guest memory by extended page tables.
//!
//! Owns: the VMX state of every processor, the objects [`Vcpu`] and [`GuestSpace`], and the way into a guest and back.
//! Must never: emulate an instruction, or trust a value of the page that it shares with a monitor.
//!
//! A run is [`Vcpu::run`]: load what the monitor changed, enter, store what the exit needs. What an exit costs is counted in
//! instructions, so each exit stores the least that its monitor can work with; see [`exit`] for what that is.

mod apic;
mod apic_guard;
mod capabilities;
mod controls;
mod cpu;
mod debug;
mod destroy;
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
mod shadow;
mod shadow_memory;
mod state;
mod store;
mod vcpu;
mod vmcs;
mod vpid;

pub use capabilities::detect;
pub use cpu::VmxCpu;
pub use destroy::{begin_run, destroy_guest_space, destroy_vcpu, end_run, resume_run};
pub use enable::{EnableError, enable};
pub use exit::Outcome;
pub use guest_space::{GuestSpace, forget_guest_space};
pub use shadow::Duty;
pub use shadow_memory::forget_shadows;
pub use vcpu::{MappedHere, Vcpu};

use bulkhead_abi::{Error, GuestPaging};

/// Guests can run on the processor that executes this; all processors are alike.
pub fn available() -> Result<(), Error> {
    Error::Unsupported.when(!crate::arch::cpu::this().vmx.is_enabled.get())
}

/// Guest spaces of this kind can be made.
pub fn paging_available(paging: GuestPaging) -> Result<(), Error> {
    Error::Unsupported.when(paging == GuestPaging::Ept && !crate::arch::cpu::this().vmx.has_ept.get())?;
    available()
}
