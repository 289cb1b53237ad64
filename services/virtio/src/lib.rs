//! Virtqueues as the device sees them, over hostile guest memory.
#![no_std]
#![forbid(unsafe_code)]
