//! What drivers and the services above them agree on.
//!
//! Owns: the traits and types between a device-specific driver and its surroundings. Below it: [`Registers`], [`DmaMemory`],
//! [`Clock`]. Above it: a disk ([`Drive`]), a network card ([`Nic`]). Must never: know a particular device, or how registers and memory
//! are mapped.
//!
//! A driver does not believe its device: it bounds every wait by the clock and every index by its own tables. It does not own the
//! memory that it hands to the device, but for its [`DmaMemory`]: whoever submits a command answers for the segments.
#![no_std]
#![forbid(unsafe_code)]

mod dma;
mod drive;
mod nic;
mod registers;

pub use dma::*;
pub use drive::*;
pub use nic::*;
pub use registers::*;

/// Time, for limits on how long hardware may take.
pub trait Clock {
    /// Milliseconds since some moment.
    fn milliseconds(&self) -> u64;

    /// Busily waits until `condition` holds; false if it did not within `limit` milliseconds.
    fn wait_until(&self, limit: u64, mut condition: impl FnMut() -> bool) -> bool
    where
        Self: Sized,
    {
        let deadline = self.milliseconds().saturating_add(limit);
        loop {
            if condition() {
                return true;
            }
            if self.milliseconds() >= deadline {
                return false;
            }
            core::hint::spin_loop();
        }
    }
}
