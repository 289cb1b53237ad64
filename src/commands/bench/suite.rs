//! What takes figures, and which.

use std::time::Duration;

use super::{
    boot,
    figure::{self, Figure},
    linux,
};

/// Far above what any of the small manifests takes.
const TIME_LIMIT: Duration = Duration::from_secs(300);

/// How the figures of a suite are taken.
enum Method {
    /// The partitions of a manifest print them.
    Printed(&'static str),
    /// Linux is booted twice.
    Linux(linux::Boot),
}

/// Figures that are taken together.
pub struct Suite {
    method: Method,
    figures: &'static [&'static str],
    /// Where the same is measured on another machine: what the names have in addition.
    suffix: &'static str,
}

/// What figures of a machine with two CPUs have in addition, if others have the same names.
const TWO_CPUS: &str = ".2cpus";
const EXITS: [&str; 3] = ["exit.cpuid", "exit.pio", "exit.mmio"];

impl Suite {
    /// Every suite; the slow one last.
    pub const ALL: [Self; 5] = [
        Self {
            method: Method::Printed("partitions/bench.toml"),
            figures: &["syscall.null", "ipc.call_reply", EXITS[0], EXITS[1], EXITS[2], "boot.kernel"],
            suffix: "",
        },
        Self { method: Method::Printed("partitions/bench-2cpus.toml"), figures: &["notify.cross_cpu"], suffix: "" },
        Self { method: Method::Printed("partitions/bench-exits-2cpus.toml"), figures: &EXITS, suffix: TWO_CPUS },
        Self { method: Method::Linux(linux::ONE), figures: &linux::FIGURES, suffix: "" },
        Self { method: Method::Linux(linux::TWO), figures: &linux::FIGURES, suffix: TWO_CPUS },
    ];

    /// The names of its figures.
    pub fn figures(&self) -> impl Iterator<Item = String> {
        self.figures.iter().map(|name| format!("{name}{}", self.suffix))
    }

    /// Takes them on a processor of this model. One that cannot be taken is missing from the result.
    pub fn run(&self, model: &str) -> miette::Result<Vec<Figure>> {
        let mut figures = match &self.method {
            Method::Printed(manifest) => figure::figures_of(&boot::manifest(manifest, model, TIME_LIMIT)?, model),
            Method::Linux(boot) => linux::run(boot, model)?,
        };
        for figure in &mut figures {
            figure.name.push_str(self.suffix);
        }
        Ok(figures)
    }
}
