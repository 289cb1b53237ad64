//! The command line.

use std::path::PathBuf;

use bulkhead_harness::Backend;
use clap::{Args, Parser, Subcommand};

/// Bulkhead, a microkernel-style separation kernel for x86-64.
#[derive(Parser)]
#[command(name = "bulkhead", version, max_term_width = 100)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Show what this machine has, and what is missing
    Doctor,
    /// Check a manifest and show everything that is wrong with it
    Check {
        /// The manifest, a TOML file
        manifest: PathBuf,
    },
    /// Print the JSON schema of manifests, by which editors complete them
    Schema,
    /// Draw the system that a manifest describes, as SVG
    Graph(GraphArguments),
    /// Build a bootable image (a CD for a PC BIOS)
    Build(BuildArguments),
    /// Build an image and run it on an emulated machine
    Run(RunArguments),
    /// Run it and record what happens on its CPUs, or read that in a saved log: a trace for Perfetto, and a summary
    Trace(TraceArguments),
    /// Add functions and lines of the source to a saved log of a crash or a panic
    Symbolize {
        /// What the serial line brought [default: standard input]
        log: Option<PathBuf>,
    },
    /// Measure the kernel under Bochs, in instructions
    Bench(BenchArguments),
}

#[derive(Args)]
pub struct GraphArguments {
    /// The manifest, a TOML file
    pub manifest: PathBuf,
    /// Where the picture goes [default: standard output]
    #[arg(short, long, value_name = "F.svg")]
    pub output: Option<PathBuf>,
}

#[derive(Args)]
pub struct BuildArguments {
    /// The manifest, a TOML file
    pub manifest: PathBuf,
    /// Where the image goes [default: beside the other outputs under target/]
    #[arg(short, long, value_name = "F.iso")]
    pub output: Option<PathBuf>,
}

#[derive(Args)]
pub struct RunArguments {
    /// The manifest, a TOML file
    pub manifest: PathBuf,
    /// What runs the image: auto (kvm where guests of KVM get VMX, else bochs), kvm, bochs, or qemu (emulated, no guests)
    #[arg(long, default_value = "auto", value_parser = parse_backend, value_name = "BACKEND")]
    pub backend: BackendChoice,
    /// Processor model, in the emulator's terms
    #[arg(long, value_name = "MODEL")]
    pub cpu: Option<String>,
    /// Processors [default: as many as the manifest wants]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub cpus: Option<u32>,
    /// Main memory in MiB [default: as much as the manifest wants]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(16..=1_048_576))]
    pub memory: Option<u32>,
    /// Seconds after which the run is ended with status 124 [default: none at a terminal, 900 elsewhere]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub timeout: Option<u64>,
    /// Count exits of guests, and times and events of all partitions, and show the counts as tables at the end
    #[arg(long)]
    pub stats: bool,
    /// Also write the machine's serial output to a file
    #[arg(long, value_name = "FILE")]
    pub serial: Option<PathBuf>,
    /// The machine's IDE disk, a raw image; made if it is not there [default: one for each manifest, under target/]
    #[arg(long, value_name = "FILE")]
    pub disk: Option<PathBuf>,
}

#[derive(Args)]
#[command(mut_arg("manifest", |manifest| manifest.required(false).required_unless_present("log")))]
pub struct TraceArguments {
    /// What is run; nothing where a log is read.
    #[command(flatten)]
    pub run: Option<RunArguments>,
    /// Read the trace in a saved serial log, such as one of --serial or of a real machine, instead of running a system
    #[arg(long, value_name = "FILE", conflicts_with_all = ["RunArguments", "ring", "seconds"])]
    pub log: Option<PathBuf>,
    /// Where the trace goes, in Chrome's JSON format [default: beside the other outputs under target/; of a log, its name and .json]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// MiB of memory for each CPU's ring, a power of two, unless the manifest says how much [default: 256 KiB]
    #[arg(long, value_name = "MIB", value_parser = ["1", "2", "4", "8", "16"])]
    pub ring: Option<String>,
    /// End the system after so many seconds of its own time, whatever the manifest says
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub seconds: Option<u64>,
}

#[derive(Args)]
pub struct BenchArguments {
    /// Print each figure as a JSON object on a line
    #[arg(long)]
    pub json: bool,
    /// Take only figures whose names contain this, such as `exit`
    #[arg(long, value_name = "S")]
    pub filter: Option<String>,
    /// Processor model, in Bochs' terms
    #[arg(long, value_name = "MODEL")]
    pub cpu: Option<String>,
}

/// The value of `--backend`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendChoice {
    Auto,
    Fixed(Backend),
}

fn parse_backend(name: &str) -> Result<BackendChoice, String> {
    if name == "auto" { Ok(BackendChoice::Auto) } else { name.parse().map(BackendChoice::Fixed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definition_is_sound() {
        <Arguments as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn traces_are_of_a_run_or_of_a_log() {
        let parse = |words: &str| {
            let arguments = Arguments::try_parse_from(["bulkhead"].into_iter().chain(words.split(' ')));
            match arguments.map(|arguments| arguments.command) {
                Ok(Command::Trace(trace)) => Some((trace.run.map(|run| run.manifest), trace.log)),
                _ => None,
            }
        };
        let file = |name: &str| Some(PathBuf::from(name));
        assert_eq!(parse("trace m.toml --seconds 5 --stats"), Some((file("m.toml"), None)));
        assert_eq!(parse("trace --log serial.log -o t.json"), Some((None, file("serial.log"))));
        for wrong in
            ["trace", "trace --stats", "trace m.toml --log l", "trace --log l --cpus 2", "trace --log l --ring 1"]
        {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn backends_are_known_by_name() {
        assert_eq!(parse_backend("auto"), Ok(BackendChoice::Auto));
        assert_eq!(parse_backend("bochs"), Ok(BackendChoice::Fixed(Backend::Bochs)));
        assert!(parse_backend("vmware").is_err());
    }
}
