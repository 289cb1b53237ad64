//! PCI configuration space.
//!
//! Owns: finding functions ([`scan`]), sizing BARs ([`bar`]), the message capabilities ([`capability`]), matching functions with
//! what a plan wants ([`matching`]), the table that says where configuration space is in memory ([`mcfg`]), and the layout of the
//! pages that the bus service shares with init ([`exchange`]). Must never: touch hardware but through [`ConfigurationSpace`], or
//! believe what configuration space says without a bound.
#![no_std]
#![forbid(unsafe_code)]

pub mod bar;
pub mod capability;
pub mod exchange;
pub mod function;
pub mod matching;
pub mod mcfg;
pub mod scan;

pub use bar::Bar;
pub use capability::{Message, Messages};
pub use function::{Address, ConfigurationSpace, Identity};
