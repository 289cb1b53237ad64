//! Bochs: its configuration, its command line, and what its log says about the end.

use std::{fs, path::Path, process::Command};

use bulkhead_abi::CpuFeatures;
use bulkhead_manifest::Model;

use crate::{
    Backend, End, HarnessError, Run,
    emulator::{Ended, Prepared},
};

/// The processor model unless the run names one: EPT, unrestricted guest, APIC virtualization, preemption timer.
pub(crate) const DEFAULT_CPU: &str = "corei7_skylake_x";
/// Ticks of the machine's clock that pass for a second: a large value costs guests few timer interrupts.
const TICKS_PER_SECOND: u32 = 50_000_000;
/// Second at which the machine's clock starts; fixed, so that runs are identical.
const START_TIME: u32 = 1_700_000_000;
/// Most processors of one machine that Bochs is known to start.
const MAX_CPUS: u32 = 8;

/// The processor models that the installed Bochs knows.
///
/// # Errors
/// If Bochs cannot be run.
pub fn cpu_models() -> Result<Vec<String>, HarnessError> {
    Ok(listed(&help("cpu")?, "Supported CPU models"))
}

/// Whether the installed Bochs has its one PCI device that manifests can name, a network card.
///
/// # Errors
/// If Bochs cannot be run.
pub fn has_network_card() -> Result<bool, HarnessError> {
    Ok(listed(&help("features")?, "Supported features").iter().any(|feature| feature == NETWORK_CARD))
}

/// The name of that card.
const NETWORK_CARD: &str = "e1000";

/// What Bochs says of a topic.
fn help(topic: &str) -> Result<String, HarnessError> {
    let output = Command::new("bochs")
        .args(["--help", topic])
        .output()
        .map_err(|error| HarnessError::Process { program: "bochs", error })?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok(text)
}

/// The names under a heading.
fn listed(help: &str, heading: &str) -> Vec<String> {
    help.lines()
        .skip_while(|line| !line.contains(heading))
        .skip(1)
        .skip_while(|line| line.trim().is_empty())
        .take_while(|line| !line.trim().is_empty())
        .map(|line| line.trim().to_owned())
        .collect()
}

/// What Bochs' models with VMX offer, by its own tables; `None` for a model that is not known here.
pub(crate) fn features(model: &str) -> Option<CpuFeatures> {
    let minimal = CpuFeatures::VMX;
    let first_ept = minimal | CpuFeatures::EPT | CpuFeatures::VPID | CpuFeatures::PREEMPTION_TIMER;
    let unrestricted = first_ept | CpuFeatures::UNRESTRICTED_GUEST;
    let virtual_apic = unrestricted | CpuFeatures::VIRTUAL_APIC;
    match model {
        "core2_penryn_t9600" => Some(minimal),
        "corei5_lynnfield_750" => Some(first_ept),
        "corei7_sandy_bridge_2600k" => Some(unrestricted),
        "corei7_skylake_x" => Some(virtual_apic),
        _ => None,
    }
}

/// Writes the configuration into the run's directory and returns the command that starts Bochs.
pub(crate) fn prepare(run: &Run, serial: &str) -> Result<Prepared, HarnessError> {
    let known = cpu_models()?;
    if let Some(model) = run.cpu_model.as_ref().filter(|model| !known.contains(model)) {
        return Err(HarnessError::UnknownCpuModel { model: model.clone(), known });
    }
    let write = |name: &str, text: &str| {
        let path = run.directory.join(name);
        fs::write(&path, text).map_err(HarnessError::file(path))
    };
    write("bochsrc", &configuration(run, serial)?)?;
    // Debian's Bochs has the debugger built in, which waits for a command before the first instruction.
    write("commands", "c\n")?;
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "bochs", "-unlock", "-f", "bochsrc", "-rc", "commands"])
        .current_dir(&run.directory);
    Ok(Prepared { command, program: "bochs" })
}

fn configuration(run: &Run, serial: &str) -> Result<String, HarnessError> {
    let model = Backend::Bochs.cpu_model(run.cpu_model.as_deref());
    let cpus = run.cpus.clamp(1, MAX_CPUS);
    let memory = run.memory_mib;
    let image = expressible(&run.image)?;
    // A processor's panic is a triple fault, which must end the run; any other is worth a line in the log.
    let fatal: String = (0..cpus).map(|cpu| format!(", cpu{cpu}=fatal")).collect();
    let pci = pci(run)?;
    let disk = match &run.disk {
        Some(disk) => {
            let path = expressible(disk)?;
            format!("ata0-master: type=disk, path=\"{path}\", mode=flat, translation=auto\n")
        }
        None => String::new(),
    };
    Ok(format!(
        "cpu: model={model}, count={cpus}, ips={TICKS_PER_SECOND}, reset_on_triple_fault=0\n\
         memory: guest={memory}, host={memory}\n\
         romimage: file=/usr/share/bochs/BIOS-bochs-latest, options=fastboot\n\
         vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest\n\
         display_library: rfb, options=\"timeout=0\"\n\
         clock: sync=none, time0={START_TIME}\n\
         com1: enabled=1, mode=term, dev={serial}\n\
         port_e9_hack: enabled=1\n\
         mouse: enabled=0\n\
         {pci}{disk}\
         ata0-slave: type=cdrom, path=\"{image}\", status=inserted\n\
         boot: cdrom\n\
         panic: action=report{fatal}\n\
         error: action=report\n\
         info: action=report\n\
         debug: action=ignore\n\
         log: bochs.log\n"
    ))
}

/// The lines about devices on the PCI bus, of which Bochs has a network card.
fn pci(run: &Run) -> Result<String, HarnessError> {
    let what = match run.devices.as_slice() {
        _ if run.iommu => "an IOMMU".to_owned(),
        [] => return Ok(String::new()),
        [device] if device.model == Model::E1000 && has_network_card()? => {
            return Ok("pci: enabled=1, chipset=i440fx, slot1=e1000\n\
                       e1000: enabled=1, mac=52:54:00:12:34:56, ethmod=slirp\n"
                .to_owned());
        }
        [device] => format!("the device `{}`", device.model.name()),
        _ => "more than one device".to_owned(),
    };
    Err(HarnessError::NoSuchDevice { what })
}

/// The absolute path as text, if the configuration file can hold it.
fn expressible(path: &Path) -> Result<String, HarnessError> {
    let absolute = std::path::absolute(path).map_err(HarnessError::file(path))?;
    match absolute.to_str() {
        Some(text) if !text.contains(['"', '\n', ',']) => Ok(text.to_owned()),
        _ => Err(HarnessError::Path(path.to_owned())),
    }
}

/// Reads the log that a run left. The exit status says nothing: it is 1 after a clean power-off too.
pub(crate) fn interpret(directory: &Path) -> Ended {
    let log = fs::read(directory.join("bochs.log")).unwrap_or_default();
    let console = fs::read(directory.join("emulator.out")).unwrap_or_default();
    judge(&String::from_utf8_lossy(&log), &String::from_utf8_lossy(&console))
}

fn judge(log: &str, console: &str) -> Ended {
    let panic = log.lines().rev().find_map(|line| line.split_once(">>PANIC<< ")).map(|(_, message)| message);
    let end = match panic {
        Some(message) if message.contains("soft power off") => End::PoweredOff,
        Some(message) if message.contains("3rd (") => End::TripleFault,
        Some(message) => End::EmulatorFailed(message.to_owned()),
        None => End::EmulatorFailed(last_words(console)),
    };
    let ticks = log.lines().rev().find_map(|line| line.get(..11)?.parse().ok());
    Ended { end, ticks }
}

fn last_words(console: &str) -> String {
    let lines: Vec<_> = console.lines().filter(|line| !line.starts_with("====")).collect();
    lines[lines.len().saturating_sub(3)..].join(" / ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_read_from_the_help() {
        let help = "====\n  Bochs\n====\nSupported CPU models:\n\nbx_generic\ncorei7_skylake_x\n\n000i[SIM] quit\n";
        assert_eq!(listed(help, "Supported CPU models"), ["bx_generic", "corei7_skylake_x"]);
        assert!(listed("", "Supported CPU models").is_empty());
    }

    #[test]
    fn models_differ_in_what_guests_may_need() {
        let skylake = features(DEFAULT_CPU).unwrap();
        assert!(skylake.contains(CpuFeatures::VIRTUAL_APIC | CpuFeatures::UNRESTRICTED_GUEST));
        assert!(!features("core2_penryn_t9600").unwrap().contains(CpuFeatures::EPT));
        assert_eq!(features("tigerlake"), None);
    }

    #[test]
    fn log_tells_the_end_and_the_ticks() {
        let off = "00000000000i[      ] start\n00064047962p[ACPI  ] >>PANIC<< ACPI control: soft power off\n\
                   00064047962i[SIM   ] quit_sim called with exit code 1\n";
        assert_eq!(judge(off, ""), Ended { end: End::PoweredOff, ticks: Some(64_047_962) });
        let fault = "00067329018p[CPU0  ] >>PANIC<< exception(): 3rd (13) exception with no resolution\n";
        assert_eq!(judge(fault, "").end, End::TripleFault);
        let usage = judge("", "====\nbochsrc:3: unknown parameter\n====\n");
        assert_eq!(usage.end, End::EmulatorFailed("bochsrc:3: unknown parameter".to_owned()));
        assert_eq!(usage.ticks, None);
    }

    #[test]
    fn configuration_cannot_be_injected_through_a_path() {
        for path in ["/a\nb", "/a\"b", "/a,b"] {
            assert!(matches!(expressible(Path::new(path)), Err(HarnessError::Path(_))), "{path:?}");
        }
        assert_eq!(expressible(Path::new("/a b/c")).unwrap(), "/a b/c");
    }
}
