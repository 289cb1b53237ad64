//! The runtime of a native program.
//!
//! Owns: the first instruction, the panic handler, the heap, the system-call stubs and typed handles of kernel objects, access
//! to I/O ports and to memory shared with others, and the [`Program`] that gives all of them by the names of the environment.
//! Must never: decide policy, keep state of a service, or let a program form an address of its own.
//!
//! Unsafe code is confined to the modules `syscall`, `object`, `mapping`, `shared`, `program`, `ports`, `device`, `heap`, `entry`,
//! `thread` and `time`; the programs themselves need none.
//!
//! # A program
//! ```ignore
//! #![no_std]
//! #![no_main]
//! #![deny(unsafe_code)]
//!
//! use bulkhead_runtime::{Program, entry, println};
//!
//! entry!(main);
//!
//! fn main(program: Program) {
//!     println!("I am {}", program.name());
//! }
//! ```
//! Its build script names the linker script:
//! ```ignore
//! fn main() {
//!     let script = std::env::var("DEP_BULKHEAD_RUNTIME_LINKER_SCRIPT").expect("the runtime's build script sets it");
//!     println!("cargo::rustc-link-arg-bins=-T{script}");
//!     println!("cargo::rerun-if-changed={script}");
//! }
//! ```
#![no_std]

pub mod calls;
pub mod console;
pub mod device;
#[doc(hidden)]
pub mod entry;
pub mod events;
pub mod heap;
pub mod mapping;
pub mod object;
pub mod peer;
pub mod ports;
pub mod program;
pub mod shared;
pub mod status;
pub mod syscall;
pub mod thread;
pub mod time;
mod trial;

pub use bulkhead_abi as abi;
pub use bulkhead_channel as channel;
pub use bulkhead_driver as driver;
pub use bulkhead_plan as plan;
pub use entry::{die, die_with};
pub use program::Program;
