//! What a TCP stream to the outside costs: Linux as a guest, Linux on the bare machine, and the one divided by the other.
//!
//! Both send by the same emulated card to the same server on the host ([`Sink`]), with the same program
//! (`tools/guest-images/workload`), which counts the instructions that the machine would not have executed without the stream: for the
//! guest, those of its monitor, of the switch with the card's driver, and of the kernel, too.

use std::time::Duration;

use bulkhead_harness::PciDevice;
use bulkhead_manifest::Model;
use miette::{IntoDiagnostic, WrapErr};

use super::{
    boot, exits,
    figure::{Figure, compared},
    linux::{Native, number_after},
    sink::Sink,
};
use crate::statistics::counts_of;

const MANIFEST: &str = "partitions/bench-tcp.toml";
const KERNEL: &str = "debian:linux-image-amd64";
const INITRD: &str = "builtin:stream";
const COMMAND_LINE: &str = concat!(
    "console=ttyS0,115200 nokaslr quiet nohz=off ",
    "bulkhead.address=10.0.2.15 bulkhead.gateway=10.0.2.2 bulkhead.port=5001"
);
/// The port that the manifest and the command line name; the server has another one each time.
const PORT: &str = "bulkhead.port=5001";
/// Linux takes a minute or two to start under Bochs.
const TIME_LIMIT: Duration = Duration::from_secs(900);

/// Names of the figures.
pub const FIGURES: [&str; 4] = ["net.tcp_mib", "net.tcp_mib.native", "net.tcp_mib.ratio", "net.tcp_mib.exits"];
/// MiB between the first checkpoint and the second. As `tools/guest-images/workload/src/streams.rs` has it.
const COUNT: u64 = 16;
/// The checkpoint before the stream, and the one from which on the guest does nothing.
const STREAM: u32 = 0;
const IDLE: u32 = 2;

/// Takes all figures.
pub fn run(model: &str) -> miette::Result<Vec<Figure>> {
    let sink = Sink::start().into_diagnostic().wrap_err("the server on this host")?;
    let port = format!("bulkhead.port={}", sink.port());
    let guest = boot::changed_manifest(MANIFEST, [PORT, &port], model, TIME_LIMIT)?;
    let command_line = COMMAND_LINE.replace(PORT, &port);
    let native = Native {
        kernel: KERNEL,
        devices: vec![PciDevice { model: Model::E1000, disk: None }],
        ..Native::new(INITRD, &command_line)
    };
    Ok(figures(&guest, &native.boot(MANIFEST, model)?, model))
}

fn figures(guest: &str, native: &str, model: &str) -> Vec<Figure> {
    let mut all = compared(&FIGURES[..1], guest, native, model);
    let ticks = |checkpoint: u32| {
        let phase = if checkpoint == IDLE { "idle" } else { "stream" };
        number_after(guest, &format!("stream: {phase} ticks="), 10)
    };
    let exits = exits::caused(&counts_of(guest), "linux", (STREAM, IDLE), ticks, COUNT);
    all.extend(exits.map(|exits| exits::figure(FIGURES[3], exits, COUNT, model)));
    all
}

#[cfg(test)]
mod tests {
    use super::{super::figure::Value, *};
    use std::{fs, path::Path};

    #[test]
    fn guest_and_machine_are_compared() {
        let figure = |value: u32| {
            format!(
                r#"{{"name": "net.tcp_mib", "unit": "instructions", "n": 16, "min": 1, "median": {value}, "p95": 9}}"#
            )
        };
        let guest = format!(
            "linux| {}\nlinux-vmm| vmm: statistics 0 0: io=4\nlinux-vmm| vmm: statistics 0 1: io=5 hlt=320\n\
             linux| stream: stream ticks=500\nlinux| stream: idle ticks=1000\n\
             linux-vmm| vmm: statistics 0 2: io=5 hlt=400\nlinux-vmm| vmm: statistics 0 3: io=6 hlt=720\n",
            figure(300)
        );
        let figures = figures(&guest, &figure(200), "model");
        let found: Vec<_> = figures.iter().map(|figure| (figure.name.as_str(), figure.median)).collect();
        let expected = [
            ("net.tcp_mib", Value::Whole(300)),
            ("net.tcp_mib.ratio", Value::Ratio(1.5)),
            ("net.tcp_mib.native", Value::Whole(200)),
            ("net.tcp_mib.exits", Value::Ratio(10.0)),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn manifest_says_the_same() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(MANIFEST);
        let text = fs::read_to_string(path).unwrap();
        for expected in [KERNEL, INITRD, COMMAND_LINE, Model::E1000.name()] {
            assert!(text.contains(&format!("\"{expected}\"")), "{expected}");
        }
        assert!(COMMAND_LINE.contains(PORT));
    }
}
