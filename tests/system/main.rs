//! Boots whole systems on emulated machines, and believes what their partitions and guests say.
//!
//! One machine at a time: what is measured here is shared by all tests, and a run's time limit is in seconds of the host.

mod bench;
mod capabilities;
mod channels;
mod corner;
mod defects;
mod dump;
mod examples;
mod faults;
mod firmware;
mod guests;
mod hostile;
mod interference;
mod ipi;
mod isolation;
mod linux;
mod machine;
mod native;
mod network;
mod nodes;
mod pci;
mod processors;
mod statistics;
mod storage;
mod trace;
mod unmodified;
