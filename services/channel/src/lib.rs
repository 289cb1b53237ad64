//! Channels: memory that two partitions share, and what they may read into it.
//!
//! Owns: the byte ring and the text channel made of two of them ([`ByteSender`], [`ByteReceiver`], [`TextChannel`]), and the
//! control page between a virtual machine monitor and the emulator of a virtio device ([`MonitorSide`], [`EmulatorSide`]), and what a
//! program knows of its peer's lives ([`Life`]).
//! Must never: trust an index, a length or a number that the peer can write; know how memory is mapped or how a
//! peer is signalled. Functions say whether the peer has to be signalled; the caller does it.
//!
//! A channel's memory is a slice of [`AtomicU64`] words, so that a peer that writes at the same time is no data race, and no
//! unsafe code is needed. Both sides keep what they own (their ring index, their command number) in private memory and only
//! publish it: a peer that overwrites it harms the channel's contents, and nothing else.
#![cfg_attr(not(loom), no_std)]
#![forbid(unsafe_code)]

mod description;
mod device;
mod in_flight;
mod life;
mod ring;
mod text;

pub use description::*;
pub use device::*;
pub use in_flight::*;
pub use life::*;
pub use ring::*;
pub use text::*;

/// The words that channel memory is made of.
#[cfg(not(loom))]
pub use core::sync::atomic::AtomicU64;
#[cfg(not(loom))]
use core::sync::atomic::fence;
/// The words that channel memory is made of.
#[cfg(loom)]
pub use loom::sync::atomic::AtomicU64;
#[cfg(loom)]
use loom::sync::atomic::fence;

/// The memory given is too small for the channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooSmall {
    /// Words that the channel needs at least.
    pub needed: usize,
    /// Words that were given.
    pub given: usize,
}
