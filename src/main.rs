//! The host command of Bulkhead: checks manifests, builds boot images, runs them on emulators.
//!
//! Exit status: 0 when a run met its manifest's end condition, 1 when it did not, 124 when its time ran out, 2 for a
//! usage or set-up error, which says what mends it.
#![forbid(unsafe_code)]

mod arguments;
mod commands;
mod places;
mod programs;
mod progress;
mod statistics;
mod system;
mod trace;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command};

/// Exit status of a usage or set-up error.
const SETUP_ERROR: u8 = 2;

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Doctor => commands::doctor::run(),
        Command::Check { manifest } => commands::check::run(&manifest),
        Command::Schema => {
            print!("{}", bulkhead_manifest::schema());
            Ok(0)
        }
        Command::Graph(arguments) => commands::graph::run(&arguments),
        Command::Build(arguments) => commands::build::run(&arguments),
        Command::Run(arguments) => commands::run::run(&arguments),
        Command::Trace(arguments) => commands::trace::run(&arguments),
        Command::Symbolize { log } => commands::symbolize::run(log.as_deref()),
        Command::Bench(arguments) => commands::bench::run(&arguments),
    };
    match result {
        Ok(status) => ExitCode::from(status),
        Err(report) => {
            eprintln!("{report:?}");
            ExitCode::from(SETUP_ERROR)
        }
    }
}
