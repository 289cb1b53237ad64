//! Manifests whose partitions take figures.

use std::{path::Path, time::Duration};

use bulkhead_harness::{Backend, Input, Run, Verdict};
use miette::miette;

use super::figure::{self, Figure};
use crate::{
    progress::Step,
    system::{self, System},
};

/// Far above what any of them takes.
const TIME_LIMIT: Duration = Duration::from_secs(300);
/// Lines of serial output that are shown of a run that failed.
const LAST_LINES: usize = 12;

/// A manifest, and the figures that are taken by it and no other.
pub struct Suite {
    /// Its path in the checkout.
    pub manifest: &'static str,
    figures: &'static [&'static str],
}

impl Suite {
    /// Every suite.
    pub const ALL: [Self; 2] = [
        Self {
            manifest: "partitions/bench.toml",
            figures: &[
                "syscall.null",
                "ipc.call_reply",
                "exit.cpuid",
                "exit.pio",
                "exit.mmio",
                "boot.kernel",
            ],
        },
        Self {
            manifest: "partitions/bench-2cpus.toml",
            figures: &["notify.cross_cpu"],
        },
    ];

    /// The names of its figures.
    pub fn figures(&self) -> impl Iterator<Item = &'static str> {
        self.figures.iter().copied()
    }

    /// Boots it on a processor of this model and returns what it printed, which may be less than it should.
    pub fn run(&self, model: &str) -> miette::Result<Vec<Figure>> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join(self.manifest);
        let system =
            System::compile(&manifest)?.ok_or_else(|| miette!("{} is wrong", self.manifest))?;
        system.check_features(Backend::Bochs, Some(model))?;
        let directory = system::directory(&manifest)?.join("bench");
        std::fs::create_dir_all(&directory)
            .map_err(|error| miette!("{}: {error}", directory.display()))?;
        let run = Run {
            image: directory.join("image.iso"),
            backend: Backend::Bochs,
            cpu_model: Some(model.to_owned()),
            cpus: system.cpus(None)?,
            memory_mib: system.memory_mib(None)?,
            disk: system.disk(None, &directory)?,
            timeout: Some(TIME_LIMIT),
            directory,
        };
        system.build_image(&run.image)?;
        let step = Step::begin(format!("running {}", self.manifest));
        let report = run.execute(Input::None, &mut |_| {})?;
        step.done();

        let serial = String::from_utf8_lossy(&report.serial);
        let reason = match report.verdict() {
            Verdict::Passed => None,
            Verdict::Failed(reason) => Some(reason),
            Verdict::TimedOut => Some(format!("not done after {} s", TIME_LIMIT.as_secs())),
        };
        if let Some(reason) = reason {
            eprintln!("bulkhead: {}: {reason}", self.manifest);
            let lines: Vec<&str> = serial.lines().collect();
            for line in lines.iter().skip(lines.len().saturating_sub(LAST_LINES)) {
                eprintln!("  {line}");
            }
        }
        Ok(figure::figures_of(&serial, model))
    }
}
