//! The compiled manifest that init reads, and the environment page that every partition starts with.
#![no_std]
#![forbid(unsafe_code)]
