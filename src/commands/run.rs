//! `bulkhead run`: the image on an emulated machine, its serial line on this terminal.

use std::{
    fs::File,
    io::{self, IsTerminal, Write},
    path::Path,
    time::Duration,
};

use bulkhead_harness::{Backend, Input, Report, Run, Verdict};
use bulkhead_manifest::Tracing;
use miette::{IntoDiagnostic, WrapErr};

use crate::{
    arguments::{BackendChoice, RunArguments},
    places::Places,
    statistics::{self, Filter},
    system::{self, Purpose, System},
    trace::{self, Trace},
};

/// Exit status when the manifest's end condition is not met.
const FAILED: u8 = 1;
/// Exit status when time ran out, as of timeout(1).
const TIMED_OUT: u8 = 124;
/// Time limit of a run that nobody watches.
const UNATTENDED_LIMIT: Duration = Duration::from_secs(900);

/// Builds, boots, watches; the status tells how it went.
pub fn run(arguments: &RunArguments) -> miette::Result<u8> {
    let trace = arguments.stats.then_some(Tracing { memory: None, totals: true });
    let Some(report) = boot(arguments, trace, None)? else {
        return Ok(crate::SETUP_ERROR);
    };
    if arguments.stats {
        let serial = String::from_utf8_lossy(&report.serial);
        let trace = Trace::of(&serial);
        for warning in trace.warnings() {
            eprintln!("bulkhead: {warning}");
        }
        let tables = [statistics::table(&serial), trace::partitions(&trace)];
        let _ = write!(io::stdout(), "{}", tables.map(|table| table + "\n").concat());
    }
    Ok(conclude(&report))
}

/// Builds and boots a system, traced if it is to be, and watches it to its end. `None` if the manifest is wrong, which has been shown.
pub fn boot(
    arguments: &RunArguments,
    trace: Option<Tracing>,
    end_after_us: Option<u64>,
) -> miette::Result<Option<Report>> {
    let (interactive, statistics) = (io::stdin().is_terminal(), arguments.stats);
    let purpose = Purpose { interactive, statistics, trace, end_after_us };
    let Some(system) = System::compile_for(&arguments.manifest, purpose)? else {
        return Ok(None);
    };
    let backend = match arguments.backend {
        BackendChoice::Auto => Backend::for_guests(),
        BackendChoice::Fixed(backend) => backend,
    };
    system.check_features(backend, arguments.cpu.as_deref())?;
    let directory = system::directory(&arguments.manifest)?;
    let (cpus, memory_mib) = (system.cpus(arguments.cpus)?, system.memory_mib(arguments.memory)?);
    let run = Run {
        image: directory.join("image.iso"),
        backend,
        cpu_model: arguments.cpu.clone(),
        cpus,
        memory_mib,
        disk: system.disk(arguments.disk.as_deref(), &directory)?,
        devices: system.devices(&directory)?,
        iommu: system.iommu(),
        nodes: system.nodes(cpus, memory_mib),
        timeout: time_limit(arguments.timeout),
        directory: directory.join(backend.to_string()),
    };
    system.build_image(&run.image)?;
    announce(&run);
    let filter = (statistics || trace.is_some()).then(Filter::default);
    execute(&run, arguments.serial.as_deref(), filter).map(Some)
}

fn time_limit(seconds: Option<u64>) -> Option<Duration> {
    match seconds {
        Some(seconds) => Some(Duration::from_secs(seconds)),
        None => (!io::stdin().is_terminal()).then_some(UNATTENDED_LIMIT),
    }
}

fn announce(run: &Run) {
    let limit = match run.timeout {
        Some(limit) => format!("limit {} s", limit.as_secs()),
        None => "no time limit".to_owned(),
    };
    let keys = if io::stdin().is_terminal() { "; Control-A X ends the run" } else { "" };
    eprintln!(
        "bulkhead: {}, {} CPU{}, {} MiB, {limit}{keys}",
        run.backend,
        run.cpus,
        if run.cpus == 1 { "" } else { "s" },
        run.memory_mib
    );
}

fn execute(run: &Run, serial: Option<&Path>, mut filter: Option<Filter>) -> miette::Result<Report> {
    let mut file = match serial {
        Some(path) => Some(File::create(path).into_diagnostic().wrap_err_with(|| path.display().to_string())?),
        None => None,
    };
    let mut file_error = None;
    let mut places = Places::default();
    let mut stdout = io::stdout();
    let report = run.execute(Input::Terminal, &mut |bytes| {
        let passed = filter.as_mut().map(|filter| filter.pass(bytes));
        let shown = places.pass(passed.as_deref().unwrap_or(bytes));
        // A reader of standard output that has gone away does not end the run.
        let _ = stdout.write_all(&shown).and_then(|()| stdout.flush());
        if let Some(Err(error)) = file.as_mut().map(|file| file.write_all(bytes)) {
            file_error.get_or_insert(error);
        }
    })?;
    let mut rest = places.pass(&filter.map_or_else(Vec::new, |mut filter| filter.rest()));
    rest.extend(places.rest().bytes());
    let _ = stdout.write_all(&rest);
    match (file_error, serial) {
        (Some(error), Some(path)) => Err(error).into_diagnostic().wrap_err_with(|| path.display().to_string()),
        _ => Ok(report),
    }
}

/// Says how it went; the exit status.
pub fn conclude(report: &Report) -> u8 {
    let seconds = report.duration.as_secs_f64();
    match report.verdict() {
        Verdict::Passed => {
            eprintln!("bulkhead: passed in {seconds:.1} s");
            0
        }
        Verdict::Failed(reason) => {
            eprintln!("bulkhead: failed after {seconds:.1} s: {reason}");
            FAILED
        }
        Verdict::TimedOut => {
            eprintln!(
                "bulkhead: timed out after {seconds:.1} s; the emulator's log is in {}",
                report.directory.display()
            );
            TIMED_OUT
        }
    }
}
