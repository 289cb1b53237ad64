//! A client of a block service, over memory that it shares with the service alone.
//!
//! Owns: the virtqueue, requests and bounce buffers in that memory ([`BlockClient`]), which to the service is the memory of one more
//! guest, with addresses from 0; the set-up over the disk's channel; the record of what is in flight, and its submission anew when the
//! service was started anew; and a drive over all that which copies between bounce buffers and a guest's memory ([`CopyDrive`]).
//! Must never: use what the service can write as an index or a length, wait, or rely on what a service that ended has left.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod client;
mod copy;
mod offer;

pub use client::{BUFFER_BYTES, BUFFERS_AT, BlockClient, DEPTH, Doorbell, MEMORY_BYTES};
pub use copy::{Buffers, CopyDrive, SameAddress};
