//! What takes figures, and which.

use std::time::Duration;

use super::{
    boot,
    figure::{self, Figure},
    linux, reads,
    shadow::{Engine, Workload},
    stream,
};

/// Far above what any of the small manifests takes.
const TIME_LIMIT: Duration = Duration::from_secs(300);

/// How the figures of a suite are taken.
enum Method {
    /// The partitions of a manifest print them.
    Printed(&'static str),
    /// The same in the company of so many partitions more; the names get this suffix.
    Crowded(&'static str, usize, &'static str),
    /// Linux is booted twice.
    Linux(&'static linux::Boot),
    /// Linux reads its disk, as a guest and on the bare machine.
    Reads,
    /// Linux sends a stream, as a guest and on the bare machine.
    Stream,
    /// Guests with shadow paging print them, and their monitors count exits.
    Shadow(Workload, Engine),
}

/// Figures that are taken together.
pub struct Suite {
    method: Method,
    figures: &'static [&'static str],
}

impl Suite {
    /// Every suite; the slow ones last.
    pub const ALL: [Self; 15] = [
        Self {
            method: Method::Printed("partitions/bench.toml"),
            figures: &["syscall.null", "ipc.call_reply", "exit.cpuid", "exit.pio", "exit.mmio", "boot.kernel"],
        },
        // What it measures has four partitions.
        Self {
            method: Method::Crowded("partitions/bench.toml", 56, ".60"),
            figures: &["ipc.call_reply.60", "exit.cpuid.60"],
        },
        Self { method: Method::Printed("partitions/bench-2cpus.toml"), figures: &["notify.cross_cpu"] },
        Self {
            method: Method::Printed("partitions/bench-smp.toml"),
            figures: &[
                "exit.cpuid.smp",
                "exit.pio.smp",
                "exit.mmio.smp",
                "ipi.busy",
                "ipi.busy.xapic",
                "ipi.busy.x2apic",
                "ipi.halted",
                "ipi.halted.xapic",
                "ipi.halted.x2apic",
            ],
        },
        Self {
            method: Method::Printed("partitions/bench-shootdown.toml"),
            figures: &["shootdown.ept", "shootdown.ept.outside"],
        },
        Self::shadow(Workload::Operations, Engine::Kept),
        Self::shadow(Workload::Operations, Engine::Plain),
        Self::shadow(Workload::Operations, Engine::Ept),
        Self::shadow(Workload::TwoProcessors, Engine::Kept),
        Self::shadow(Workload::Linux, Engine::Kept),
        Self::shadow(Workload::Linux, Engine::Plain),
        Self { method: Method::Reads, figures: &reads::FIGURES },
        Self { method: Method::Stream, figures: &stream::FIGURES },
        Self { method: Method::Linux(&linux::ONE), figures: &linux::ONE.figures },
        Self { method: Method::Linux(&linux::TWO), figures: &linux::TWO.figures },
    ];

    const fn shadow(workload: Workload, engine: Engine) -> Self {
        Self { method: Method::Shadow(workload, engine), figures: workload.figures(engine) }
    }

    /// The names of its figures.
    pub fn figures(&self) -> impl Iterator<Item = &'static str> {
        self.figures.iter().copied()
    }

    /// Takes them on a processor of this model. One that cannot be taken is missing from the result.
    pub fn run(&self, model: &str) -> miette::Result<Vec<Figure>> {
        match self.method {
            Method::Printed(manifest) => {
                let serial = boot::manifest(manifest, model, TIME_LIMIT)?;
                Ok(figure::figures_of(&serial, model))
            }
            Method::Crowded(manifest, more, suffix) => {
                let serial = boot::crowded_manifest(manifest, more, model, TIME_LIMIT)?;
                let renamed = |figure: Figure| Figure { name: figure.name + suffix, ..figure };
                Ok(figure::figures_of(&serial, model).into_iter().map(renamed).collect())
            }
            Method::Linux(linux) => linux::run(linux, model),
            Method::Reads => reads::run(model),
            Method::Stream => stream::run(model),
            Method::Shadow(workload, engine) => workload.run(engine, model),
        }
    }
}
