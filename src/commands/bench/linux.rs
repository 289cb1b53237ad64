//! How long Linux takes to start: as a guest, on the bare machine, and the one divided by the other.
//!
//! Both times are from the kernel's first instruction to the first instruction of its first program, with the same
//! kernel, initial RAM disk, command line and size of memory. What brings the kernel into memory is not measured.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use bulkhead_harness::{Backend, PciDevice, Run};
use miette::{IntoDiagnostic, WrapErr, miette};

use super::{
    boot,
    figure::{Figure, Value},
};
use crate::{programs, system};

const KERNEL: &str = "debian:linux-image-cloud-amd64";
const INITRD: &str = "builtin:checks";
const MEMORY_MIB: u32 = 256;
/// Linux takes a minute or two to start under Bochs.
const TIME_LIMIT: Duration = Duration::from_secs(900);

/// What the first program of the initial RAM disk prints before its time-stamp counter.
const FIRST_PROGRAM: &str = "check: init tsc=";
/// What the guest's monitor prints before the counter at the guest's first instruction.
const GUEST_ENTERED: &str = "vmm: the guest was entered at tsc=";

/// A machine and the guest that has as many processors.
pub struct Boot {
    /// The manifest with the guest; the rest, and the constants above, repeat what it says.
    manifest: &'static str,
    /// Quiet, since a guest's serial port takes at once what takes the bare machine's a while: nothing that Bulkhead could
    /// be proud of.
    command_line: &'static str,
    cpus: u32,
    /// Names of the figures: as a guest, on the bare machine, and the one divided by the other.
    pub figures: [&'static str; 3],
}

/// With one processor.
pub static ONE: Boot = Boot {
    manifest: "partitions/bench-linux.toml",
    command_line: "console=ttyS0,115200 nokaslr quiet",
    cpus: 1,
    figures: ["linux.boot", "linux.boot.native", "linux.boot.ratio"],
};
/// With two. Guests have no MWAIT, and Bochs' loses wake-ups from one processor to another: nobody uses it.
pub static TWO: Boot = Boot {
    manifest: "partitions/bench-linux-smp.toml",
    command_line: "console=ttyS0,115200 nokaslr quiet idle=halt",
    cpus: 2,
    figures: ["linux.boot.smp", "linux.boot.native.smp", "linux.boot.ratio.smp"],
};

/// Takes all figures.
pub fn run(linux: &Boot, model: &str) -> miette::Result<Vec<Figure>> {
    let serial = boot::manifest(linux.manifest, model, TIME_LIMIT)?;
    let guest = ticks(&serial, number_after(&serial, GUEST_ENTERED, 10));
    let serial = Native { cpus: linux.cpus, ..Native::new(INITRD, linux.command_line) }.boot(linux.manifest, model)?;
    let native = ticks(&serial, number_after(&serial, "0x", 16));

    let instructions = |name, value| Figure::once(name, (Value::Whole(value), "instructions"), model);
    let [as_guest, on_the_machine, divided] = linux.figures;
    let mut figures = Vec::new();
    figures.extend(guest.map(|ticks| instructions(as_guest, ticks)));
    figures.extend(native.map(|ticks| instructions(on_the_machine, ticks)));
    if let (Some(guest), Some(native @ 1..)) = (guest, native) {
        let ratio = Value::Ratio(guest as f64 / native as f64);
        figures.push(Figure::once(divided, (ratio, "ratio"), model));
    }
    Ok(figures)
}

/// What the bare machine boots, and with what.
pub struct Native<'a> {
    pub kernel: &'a str,
    pub initrd: &'a str,
    pub command_line: &'a str,
    pub cpus: u32,
    pub disk: Option<PathBuf>,
    pub devices: Vec<PciDevice>,
}

impl<'a> Native<'a> {
    /// The kernel of most guests, with an initial RAM disk and a command line; one processor, and no disk.
    pub fn new(initrd: &'a str, command_line: &'a str) -> Self {
        Self { kernel: KERNEL, initrd, command_line, cpus: 1, disk: None, devices: Vec::new() }
    }

    /// The machine's serial output. Its files go beside those of a manifest.
    pub fn boot(self, manifest: &str, model: &str) -> miette::Result<String> {
        let directory = system::directory(Path::new(manifest))?.join("native");
        fs::create_dir_all(&directory).into_diagnostic().wrap_err_with(|| directory.display().to_string())?;
        let image = directory.join("image.iso");
        let file = |reference| {
            programs::provide_guest_image(reference)
                .map_err(|error| miette!("{reference}: {error}"))?
                .ok_or_else(|| miette!("{reference} is not there"))
        };
        bulkhead_image::build_linux_image(&file(self.kernel)?, &file(self.initrd)?, self.command_line, &image)?;
        boot::image(
            "Linux on the bare machine",
            &Run {
                image,
                backend: Backend::Bochs,
                cpu_model: Some(model.to_owned()),
                cpus: self.cpus,
                memory_mib: MEMORY_MIB,
                disk: self.disk,
                devices: self.devices,
                iommu: false,
                nodes: Vec::new(),
                timeout: Some(TIME_LIMIT),
                directory,
            },
        )
    }
}

/// Ticks from `start` to the first program.
fn ticks(serial: &str, start: Option<u64>) -> Option<u64> {
    number_after(serial, FIRST_PROGRAM, 10)?.checked_sub(start?)
}

/// The number that follows the first occurrence of a text.
pub fn number_after(serial: &str, text: &str, radix: u32) -> Option<u64> {
    let (_, rest) = serial.split_once(text)?;
    let end = rest.find(|character: char| !character.is_digit(radix)).unwrap_or(rest.len());
    u64::from_str_radix(rest.get(..end)?, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_machines_tell_their_start_and_their_end() {
        let native = "\x1b[H\x1b[1;1H0xe1329db\r\n[    0.000000] Linux\r\ncheck: init tsc=1829966830\r\n";
        assert_eq!(ticks(native, number_after(native, "0x", 16)), Some(1_593_829_907));
        let guest = "linux| check: init tsc=300\r\nlinux-vmm| vmm: the guest was entered at tsc=100\r\n";
        assert_eq!(ticks(guest, number_after(guest, GUEST_ENTERED, 10)), Some(200));
        assert_eq!(ticks("nothing", Some(1)), None);
    }

    #[test]
    fn manifests_say_the_same() {
        for linux in [&ONE, &TWO] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(linux.manifest);
            let text = fs::read_to_string(path).unwrap();
            for expected in [KERNEL, INITRD, linux.command_line, &format!("{MEMORY_MIB} MiB")] {
                assert!(text.contains(&format!("\"{expected}\"")), "{expected}");
            }
            assert!(text.contains(&format!("\ncpus = {}\n", linux.cpus)));
        }
    }
}
