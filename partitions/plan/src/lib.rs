//! The compiled manifest that init reads, and the environment page that every partition starts with.
//!
//! Owns: the binary layout of the [`Plan`] and of the [`Environment`], the checks that make a reader safe from any bytes, and the
//! addresses and slots that every native program can count on ([`layout`]). Must never: parse text, or decide policy: that
//! is the manifest compiler's part, on the host.
//!
//! # How a plan is carried out
//! The compiler has done all the choosing: signal bits, virtual addresses, capability slots. Init only walks the tables:
//! 1. allocate every [`RegionRecord`] (contiguous, zeroed, aligned as it says);
//! 2. for each [`PartitionRecord`]: create partition, windows, threads and notifications ([`ThreadRecord`]), load the program,
//!    map a stack below [`layout::STACK_TOP`] and the environment at [`layout::ENVIRONMENT`];
//! 3. for each entry of each partition's environment: do what its [`Resource`] says (map a region, derive a signal
//!    capability to the peer, give ports...) with the slot, bit and address that the entry names;
//! 4. seal, and start the first thread of each partition with the environment's address in `rdi`.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "writer")]
extern crate alloc;

mod entry;
mod environment;
pub mod layout;
mod name;
mod parse;
mod plan;
mod record;
mod view;
#[cfg(feature = "writer")]
pub mod writer;

pub use entry::*;
pub use environment::*;
pub use name::*;
pub use plan::*;
pub use record::*;
