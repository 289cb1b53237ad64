//! Trace rings of the kernel: reading them while they are written, and carrying their records as lines of text.
//!
//! Owns: telling a record that is whole from one that is being overwritten ([`ring`]), and the text form of records, whose writer and reader
//! are here together ([`text`]), what is counted of them ([`totals`]), how exits are called ([`exits`]) and who had a CPU when ([`timeline`]). Must never: believe what it reads.
#![cfg_attr(not(loom), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod bytes;
pub mod exits;
pub mod ring;
pub mod text;
pub mod timeline;
pub mod totals;
