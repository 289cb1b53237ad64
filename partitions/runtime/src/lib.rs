//! Runtime of a native program: entry, system-call stubs, heap, environment.
#![no_std]
#![forbid(unsafe_code)]
