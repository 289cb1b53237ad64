//! Shared-memory channels: byte rings and the virtio device channel.
#![no_std]
#![forbid(unsafe_code)]
