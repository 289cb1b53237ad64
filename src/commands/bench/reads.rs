//! What reading a disk costs: Linux as a guest, Linux on the bare machine, and the one divided by the other.
//!
//! Both read the same disk of the emulated machine with the same program (`tools/guest-images/workload`), which counts the
//! instructions that the machine would not have executed without the requests: for the guest, those of all programs and of the
//! kernel. Exits are counted by the guest's monitor; those that
//! an idle guest would have had in the same time, for its clock, are taken off.

use std::{fs, path::Path, time::Duration};

use super::{
    boot, exits,
    figure::{Figure, compared},
    linux::{Native, number_after},
};
use crate::{statistics::counts_of, system};

const MANIFEST: &str = "partitions/bench-reads.toml";
const INITRD: &str = "builtin:reads";
const COMMAND_LINE: &str = "console=ttyS0,115200 nokaslr quiet nohz=off";
/// Linux takes a minute or two to start under Bochs, and the disk its time.
const TIME_LIMIT: Duration = Duration::from_secs(900);

/// Names of the figures.
pub const FIGURES: [&str; 14] = [
    "block.read_1m",
    "block.read_1m.native",
    "block.read_1m.ratio",
    "block.read_1m.exits",
    "block.read_4k",
    "block.read_4k.native",
    "block.read_4k.ratio",
    "block.read_4k.exits_qd1",
    "block.read_4k.guard_qd1",
    "block.read_4k.qd32",
    "block.read_4k.qd32.native",
    "block.read_4k.qd32.ratio",
    "block.read_4k.exits_qd32",
    "block.read_4k.signals_qd32",
];
/// What the guest measures.
const MEASURED: [&str; 3] = ["block.read_1m", "block.read_4k", "block.read_4k.qd32"];
/// Exits: name, first checkpoint, requests. As `tools/guest-images/workload/src/reads.rs` has them.
const EXITS: [(&str, u32, u64); 3] =
    [("block.read_1m.exits", 0, 16), ("block.read_4k.exits_qd1", 2, 256), ("block.read_4k.exits_qd32", 4, 1024)];
/// Counts of these names, in the same way. The exits by which the kernel works around a defect of Bochs (`kernel/src/vmx/apic_guard.rs`) are
/// the only ones of their kinds; signals are what ends a stay in the guest for the monitor's sake.
const COUNTED: [(&str, u32, &[&str], u64); 2] = [
    ("block.read_4k.guard_qd1", 2, &["interrupt-window", "virtualized-eoi"], 256),
    ("block.read_4k.signals_qd32", 4, &["host.signals"], 1024),
];

/// What the guest does from each second checkpoint to the next, and the checkpoint from which on it does nothing.
const PHASES: [&str; 4] = ["large", "small", "deep", "idle"];
const IDLE: u32 = 6;

/// Takes all figures.
pub fn run(model: &str) -> miette::Result<Vec<Figure>> {
    let guest = boot::manifest(MANIFEST, model, TIME_LIMIT)?;
    let directory = system::directory(Path::new(MANIFEST))?;
    let disk = directory.join("bench").join("disk.img");
    let disk = fs::exists(&disk).unwrap_or(false).then_some(disk);
    let native = Native { disk, ..Native::new(INITRD, COMMAND_LINE) }.boot(MANIFEST, model)?;
    Ok(figures(&guest, &native, model))
}

fn figures(guest: &str, native: &str, model: &str) -> Vec<Figure> {
    let mut all = compared(&MEASURED, guest, native, model);
    let counts = counts_of(guest);
    let ticks = |checkpoint: u32| {
        let phase = PHASES.get(checkpoint as usize / 2)?;
        number_after(guest, &format!("reads: {phase} ticks="), 10)
    };
    for (name, checkpoint, n) in EXITS {
        let exits = exits::caused(&counts, "linux", (checkpoint, IDLE), ticks, n);
        all.extend(exits.map(|exits| exits::figure(name, exits, n, model)));
    }
    for (name, checkpoint, names, n) in COUNTED {
        let count = exits::counted(&counts, "linux", checkpoint, names, n);
        all.extend(count.map(|count| exits::figure(name, count, n, model)));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::{super::figure::Value, *};

    #[test]
    fn guest_and_machine_are_compared() {
        let figure = |name: &str, value: u32| {
            format!(r#"{{"name": "{name}", "unit": "instructions", "n": 10, "min": 1, "median": {value}, "p95": 9}}"#)
        };
        let guest = format!(
            "linux| {}\nlinux-vmm| vmm: statistics 0 2: io=4\nlinux-vmm| vmm: statistics 0 3: io=5 hlt=488 interrupt-window=64\n\
             linux| reads: small ticks=500\nlinux| reads: idle ticks=1000\n\
             linux-vmm| vmm: statistics 0 6: io=5 hlt=600\nlinux-vmm| vmm: statistics 0 7: io=6 hlt=680\n",
            figure("block.read_4k", 110)
        );
        let figures = figures(&guest, &figure("block.read_4k", 100), "model");
        let found: Vec<_> = figures.iter().map(|figure| (figure.name.as_str(), figure.median)).collect();
        let expected = [
            ("block.read_4k", Value::Whole(110)),
            ("block.read_4k.ratio", Value::Ratio(1.1)),
            ("block.read_4k.native", Value::Whole(100)),
            ("block.read_4k.exits_qd1", Value::Ratio(2.0)),
            ("block.read_4k.guard_qd1", Value::Ratio(0.25)),
        ];
        assert_eq!(found, expected);
    }
}
