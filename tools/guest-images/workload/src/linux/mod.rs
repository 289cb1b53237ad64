//! Linux as the workload sees it: safe functions around its system calls (section 2 of the manual). All unsafe code is here.

mod call;
mod checkpoint;
mod disk;
mod failure;
mod futex;
mod idle;
mod page;
mod pipe;
mod print;
mod process;
mod processors;
mod socket;

pub use checkpoint::Checkpoints;
pub use disk::Disk;
pub use failure::Failure;
pub use futex::{futex_wait, futex_wake};
pub use idle::{LOOP_INSTRUCTIONS, SharedCounter, become_idle, stop_process, ticks};
pub use page::Page;
pub use pipe::{Pipe, PipeEnd};
pub use print::print;
pub use process::{execute, exit, exit_status, sleep, start_process, start_thread, wait_for, yield_processor};
pub use processors::Processors;
pub use socket::{accept, connect};
