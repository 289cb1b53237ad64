//! The emulator of virtio network cards, and the switch between them and the outside.
//!
//! Owns: the data plane of each guest's card ([`Port`]), the port that is a physical card ([`Uplink`]), and where frames go
//! ([`Switch`], [`Policy`], [`Vlan`]). Must never: deliver a frame to a port that the policy does not allow or that is in another VLAN,
//! let a guest send under another's address or into another VLAN, or let one port keep the others waiting for more than [`BURST`] frames.
//!
//! Everything that guests say is checked once, where it is read: the queues by `bulkhead-virtio`, the header before each frame by
//! [`Header::parse`], the frame's addresses by [`Addresses`]. So are the tags of frames, by whom they come from: guests' are no way into
//! a VLAN, those from outside are taken off. What is wrong is dropped and counted by its reason ([`Drops`]).
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod bucket;
mod card;
mod frame;
mod header;
mod policy;
mod port;
mod switch;
mod train;
mod uplink;
mod vlan;

pub use bucket::Bucket;
pub use card::{CardOffer, feature};
pub use frame::{Addresses, Mac};
pub use header::{HEADER_BYTES, Header, HeaderError, MAX_TRAIN};
pub use policy::{MAX_PORTS, Policy};
pub use port::{Drops, Port, PortStatistics};
pub use switch::{BURST, Switch, TooManyPorts};
pub use uplink::Uplink;
pub use vlan::Vlan;
