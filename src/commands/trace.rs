//! `bulkhead trace`: a run whose events are recorded, made into a file for viewers and a summary.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
};

use bulkhead_manifest::Tracing;
use miette::{IntoDiagnostic, WrapErr, miette};

use super::run::{boot, conclude};
use crate::{
    arguments::TraceArguments,
    statistics, system,
    trace::{self, Trace},
};

/// Runs the system, writes the trace, sums it up; the status is that of the run.
pub fn run(arguments: &TraceArguments) -> miette::Result<u8> {
    let end_after_us = arguments.seconds.map(|seconds| seconds.saturating_mul(1_000_000));
    let ring = arguments.ring.as_ref().and_then(|ring| ring.parse::<u64>().ok());
    let tracing = Tracing { memory: ring.map(|mib| mib << 20), totals: false };
    let Some(report) = boot(&arguments.run, Some(tracing), end_after_us)? else {
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
        None => system::directory(&arguments.run.manifest)?.join("trace.json"),
    };
    if !trace.log.cpus.is_empty() {
        let write = |file| trace::chrome(&trace, &mut BufWriter::new(file));
        File::create(&path).and_then(write).into_diagnostic().wrap_err_with(|| path.display().to_string())?;
        eprintln!("bulkhead: the trace is in {}: open it at https://ui.perfetto.dev", path.display());
    }
    for warning in trace.warnings() {
        eprintln!("bulkhead: {warning}");
    }
    // A reader of standard output that has gone away wants no more.
    let _ = write!(io::stdout(), "{}{}", statistics::table(&serial), trace::summary(&trace));
    Ok(conclude(&report))
}
