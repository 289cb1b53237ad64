//! Runs images under Bochs or QEMU with hard limits, and watches their serial lines.
#![forbid(unsafe_code)]
