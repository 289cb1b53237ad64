//! Runs the targets.

use bulkhead_fuzz::{Generator, TARGETS, bears, minimised};
use clap::Parser;
use std::{
    fs,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Random input for everything that reads what a guest or a file says.
#[derive(Parser)]
struct Arguments {
    /// The target; all of them if none is named
    target: Option<String>,
    /// Seconds for each target
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Seed of the inputs; another one each time if none is given
    #[arg(long)]
    seed: Option<u64>,
    /// Runs this input instead of random ones
    #[arg(long, requires = "target")]
    input: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let wanted = |name: &str| arguments.target.as_ref().is_none_or(|target| target == name);
    if !TARGETS.iter().any(|(name, _)| wanted(name)) {
        eprintln!("targets are {}", TARGETS.map(|(name, _)| name).join(", "));
        return ExitCode::from(2);
    }
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_micros() as u64);
    let seed = arguments.seed.unwrap_or_else(clock);
    for target in TARGETS.into_iter().filter(|(name, _)| wanted(name)) {
        if let Some(path) = &arguments.input {
            match fs::read(path) {
                Ok(bytes) if bears(target, &bytes) => println!("{}: the input is borne", target.0),
                Ok(_) => return ExitCode::FAILURE,
                Err(error) => {
                    eprintln!("{}: {error}", path.display());
                    return ExitCode::from(2);
                }
            }
            continue;
        }
        let (mut generator, mut count) = (Generator::new(seed), 0u64);
        let end = Instant::now() + Duration::from_secs(arguments.seconds);
        while Instant::now() < end {
            let bytes = generator.input();
            count += 1;
            if !bears(target, &bytes) {
                let path = PathBuf::from(format!("fuzz-{}-{seed}-{count}.bin", target.0));
                let written = fs::write(&path, minimised(target, &bytes));
                eprintln!("{}: input {count} of seed {seed} fails; {} {written:?}", target.0, path.display());
                return ExitCode::FAILURE;
            }
        }
        println!("{}: {count} inputs, seed {seed}", target.0);
    }
    ExitCode::SUCCESS
}
