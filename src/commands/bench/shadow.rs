//! What changes of page tables cost a guest with shadow paging: by the engine that keeps tables, by a plain virtual TLB in its place,
//! and, for the reader, with extended page tables.
//!
//! The guests measure instructions; exits are counted by their monitors, since a guest sees none of them.

use std::{path::PathBuf, time::Duration};

use super::{
    boot, exits,
    figure::{Figure, Value, figures_of},
};
use crate::{
    programs::{self, KERNEL},
    statistics::{At, Counts, counts_of},
};

/// Figures of this module begin so, and those of the plain virtual TLB.
const PREFIX: &str = "shadow.";
const PLAIN: &str = "shadow.plain.";
const EPT: &str = "shadow.ept.";
/// A plain virtual TLB takes its time.
const TIME_LIMIT: Duration = Duration::from_secs(600);
const LINUX_TIME_LIMIT: Duration = Duration::from_secs(1800);
/// Processes between the two checkpoints that `tools/guest-images/workload` sets.
const PROCESSES: u64 = 100;

/// Names of the operations with a prefix, and of their exits.
macro_rules! operations {
    ($($prefix:literal $suffix:literal),*) => {
        &[$(
            concat!($prefix, "fill", $suffix),
            concat!($prefix, "cr3_switch", $suffix),
            concat!($prefix, "two_spaces", $suffix),
            concat!($prefix, "invlpg", $suffix),
            concat!($prefix, "pte_modify", $suffix),
            concat!($prefix, "map_touch_unmap", $suffix),
            concat!($prefix, "map64", $suffix),
            concat!($prefix, "demand_fault", $suffix),
            concat!($prefix, "new_space", $suffix),
        )*]
    };
}

/// What runs the guests.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// The kernel's.
    Kept,
    /// The plain virtual TLB.
    Plain,
    /// Extended page tables.
    Ept,
}

/// What is measured.
#[derive(Clone, Copy)]
pub enum Workload {
    /// Single operations.
    Operations,
    /// Linux starts programs.
    Linux,
    /// Two processors change the same tables.
    TwoProcessors,
}

impl Engine {
    fn kernel(self) -> miette::Result<PathBuf> {
        match self {
            Self::Kept | Self::Ept => Ok(PathBuf::from(KERNEL)),
            Self::Plain => programs::build_plain_kernel(),
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::Kept => PREFIX,
            Self::Plain => PLAIN,
            Self::Ept => EPT,
        }
    }
}

impl Workload {
    /// Names of the figures.
    pub const fn figures(self, engine: Engine) -> &'static [&'static str] {
        match (self, engine) {
            (Self::Operations, Engine::Kept) => operations!("shadow." "", "shadow." ".exits"),
            (Self::Operations, Engine::Plain) => operations!("shadow.plain." "", "shadow.plain." ".exits"),
            (Self::Operations, Engine::Ept) => operations!("shadow.ept." ""),
            (Self::Linux, Engine::Kept) => &["shadow.linux.fork_exec.exits"],
            (Self::Linux, Engine::Plain) => &["shadow.plain.linux.fork_exec.exits"],
            (Self::TwoProcessors, Engine::Kept) => &["shadow.sync_ipis"],
            (Self::Linux | Self::TwoProcessors, _) => &[],
        }
    }

    /// Takes all figures.
    pub fn run(self, engine: Engine, model: &str) -> miette::Result<Vec<Figure>> {
        let (manifest, limit) = match self {
            Self::Operations if engine == Engine::Ept => ("partitions/bench-shadow-ept.toml", TIME_LIMIT),
            Self::Operations => ("partitions/bench-shadow.toml", TIME_LIMIT),
            Self::Linux => ("partitions/bench-shadow-linux.toml", LINUX_TIME_LIMIT),
            Self::TwoProcessors => ("partitions/bench-shadow-smp.toml", TIME_LIMIT),
        };
        let serial = boot::manifest_with(&engine.kernel()?, manifest, model, limit)?;
        Ok(match self {
            Self::Operations => operations(&serial, engine, model),
            Self::Linux => {
                let exits = exits::between(&counts_of(&serial), "linux", 0, PROCESSES);
                let name = format!("{}linux.fork_exec.exits", engine.prefix());
                exits.map(|exits| exits::figure(&name, exits, PROCESSES, model)).into_iter().collect()
            }
            Self::TwoProcessors => interrupts(&serial, model).into_iter().collect(),
        })
    }
}

fn operations(serial: &str, engine: Engine, model: &str) -> Vec<Figure> {
    let counts = counts_of(serial);
    let mut all = Vec::new();
    // The monitor prints a figure, too.
    let taken = figures_of(serial, model).into_iter().filter(|figure| figure.name.starts_with(PREFIX));
    for (figure, number) in taken.zip(0u32..) {
        let name = figure.name.replacen(PREFIX, engine.prefix(), 1);
        let exits = exits::between(&counts, "pages", 2 * number, figure.n);
        all.extend(exits.map(|exits| exits::figure(&format!("{name}.exits"), exits, figure.n, model)));
        all.push(Figure { name, ..figure });
    }
    all
}

/// Interrupts that the kernel has sent to keep shadow tables up to date, if there was anything to keep up to date.
fn interrupts(serial: &str, model: &str) -> Option<Figure> {
    let ends: Vec<Counts> = counts_of(serial).into_iter().filter(|counts| counts.at == At::End).collect();
    let sum = |name| ends.iter().map(|counts| counts.get(name)).sum::<u64>();
    let is_tried = ends.len() == 2 && ends.iter().all(|counts| counts.get("shadow.synchronised") > 0);
    let interrupts = sum("shadow.sync-interrupts");
    is_tried.then(|| Figure::once("shadow.sync_ipis", (Value::Whole(interrupts), "interrupts"), model))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_have_instructions_and_exits() {
        let figure = |name: &str, value: u32| {
            format!(r#"{{"name": "{name}", "unit": "instructions", "n": 10, "min": 1, "median": {value}, "p95": 9}}"#)
        };
        let serial = format!(
            "pages-vmm| {}\npages| {}\npages| {}\npages-vmm| vmm: statistics 0 0: io=3\n\
             pages-vmm| vmm: statistics 0 1: io=4 cr3-load=10 shadow.flushes=70\n\
             pages-vmm| vmm: statistics 0 2: io=5 cr3-load=10\n\
             pages-vmm| vmm: statistics 0 3: io=6 cr3-load=15\n",
            figure("boot.kernel", 2),
            figure("shadow.fill", 5),
            figure("shadow.invlpg", 6)
        );
        let figures = operations(&serial, Engine::Plain, "model");
        let found: Vec<_> = figures.iter().map(|figure| (figure.name.as_str(), figure.median)).collect();
        let expected = [
            ("shadow.plain.fill.exits", Value::Ratio(1.0)),
            ("shadow.plain.fill", Value::Whole(5)),
            ("shadow.plain.invlpg.exits", Value::Ratio(0.5)),
            ("shadow.plain.invlpg", Value::Whole(6)),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn nothing_is_claimed_of_tables_that_nobody_changed() {
        let line = |processor, rest: &str| format!("x-vmm| vmm: statistics {processor} end: io=1{rest}\n");
        let serial = line(0, " shadow.synchronised=4") + &line(1, " shadow.synchronised=2 shadow.sync-interrupts=3");
        assert_eq!(interrupts(&serial, "model").map(|figure| figure.median), Some(Value::Whole(3)));
        assert_eq!(interrupts(&(line(0, "") + &line(1, "")), "model"), None);
    }
}
