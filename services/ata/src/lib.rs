//! What drivers of ATA drives have in common.
//!
//! Owns: the answer to IDENTIFY DEVICE ([`Identity`]), from which [`Identity::information`] makes what a drive offers. Must never:
//! know a controller, or believe a word of the answer that the standard does not call valid.
//!
//! Sources: ATA/ATAPI-7 volume 1 (6.17), ATA/ATAPI Command Set - 3 (ACS-3), 7.12.7, for what came with serial ATA.
#![no_std]
#![forbid(unsafe_code)]

mod identify;

pub use identify::*;
