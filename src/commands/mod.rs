//! The subcommands. Each returns the exit status, or a set-up error to show.

pub mod bench;
pub mod build;
pub mod check;
pub mod doctor;
pub mod graph;
pub mod run;
