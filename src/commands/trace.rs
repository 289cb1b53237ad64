//! `bulkhead trace`: a run whose events are recorded, or the log of one, made into a file for viewers and a summary.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use bulkhead_manifest::Tracing;
use miette::{IntoDiagnostic, WrapErr, miette};

use super::run::{boot, conclude};
use crate::{
    arguments::{RunArguments, TraceArguments},
    statistics, system,
    trace::{self, Trace},
};

/// Shows the trace of a log, or runs the system for one; the status is that of the run.
pub fn run(arguments: &TraceArguments) -> miette::Result<u8> {
    match (&arguments.log, &arguments.run) {
        (Some(log), _) => of_log(log, arguments.output.as_deref()),
        (None, Some(run)) => of_run(run, arguments),
        (None, None) => Err(miette!("neither a manifest nor a log was named")),
    }
}

fn of_log(log: &Path, output: Option<&Path>) -> miette::Result<u8> {
    let serial = fs::read(log).into_diagnostic().wrap_err_with(|| log.display().to_string())?;
    let serial = String::from_utf8_lossy(&serial);
    let trace = Trace::of(&serial);
    if trace.is_empty() {
        return Err(miette!(
            help = "it is that of a system whose manifest has a table [trace], and that has come to its end",
            "{}: there is no trace in this log",
            log.display()
        ));
    }
    let beside = || {
        let mut name = log.as_os_str().to_owned();
        name.push(".json");
        PathBuf::from(name)
    };
    show(&trace, &serial, &output.map_or_else(beside, Path::to_owned))?;
    Ok(0)
}

fn of_run(run: &RunArguments, arguments: &TraceArguments) -> miette::Result<u8> {
    let end_after_us = arguments.seconds.map(|seconds| seconds.saturating_mul(1_000_000));
    let ring = arguments.ring.as_ref().and_then(|ring| ring.parse::<u64>().ok());
    let tracing = Tracing { memory: ring.map(|mib| mib << 20), totals: false };
    let Some(report) = boot(run, Some(tracing), end_after_us)? else {
        return Ok(crate::SETUP_ERROR);
    };
    let serial = String::from_utf8_lossy(&report.serial);
    let trace = Trace::of(&serial);
    if trace.is_empty() {
        conclude(&report);
        return Err(miette!(
            help = "the trace is written when the system ends: try --seconds 5, and see that there is a console",
            "the system has written no trace"
        ));
    }
    let path = match &arguments.output {
        Some(path) => path.clone(),
        None => system::directory(&run.manifest)?.join("trace.json"),
    };
    show(&trace, &serial, &path)?;
    Ok(conclude(&report))
}

/// Writes the file, if there are records and not counts alone, and the summary.
fn show(trace: &Trace, serial: &str, path: &Path) -> miette::Result<()> {
    if !trace.log.cpus.is_empty() {
        let write = |file| trace::chrome(trace, &mut BufWriter::new(file));
        File::create(path).and_then(write).into_diagnostic().wrap_err_with(|| path.display().to_string())?;
        eprintln!("bulkhead: the trace is in {}: open it at https://ui.perfetto.dev", path.display());
    }
    for warning in trace.warnings() {
        eprintln!("bulkhead: {warning}");
    }
    // A reader of standard output that has gone away wants no more.
    let _ = write!(io::stdout(), "{}{}", statistics::table(serial), trace::summary(trace));
    Ok(())
}
