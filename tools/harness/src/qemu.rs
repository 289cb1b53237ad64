//! QEMU: its command lines, and what its log says about the end.

use std::{ffi::OsString, fs, path::Path, process::Command};

use crate::{
    Backend, End, HarnessError, NestedVmx, Run,
    emulator::{Ended, Prepared},
};

/// Returns the command that starts QEMU for the run's backend.
pub(crate) fn prepare(run: &Run, serial: &str) -> Result<Prepared, HarnessError> {
    if run.backend == Backend::Kvm {
        let nested = NestedVmx::detect();
        if nested != NestedVmx::Available {
            return Err(HarnessError::NoNestedVmx(nested));
        }
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "qemu-system-x86_64"])
        .args(arguments(run, serial)?)
        .current_dir(&run.directory);
    Ok(Prepared { command, program: "qemu-system-x86_64" })
}

fn arguments(run: &Run, serial: &str) -> Result<Vec<OsString>, HarnessError> {
    let mut arguments: Vec<OsString> = Vec::new();
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(OsString::from));
    let bus = match run.backend {
        // The machine with PIIX IDE built in, as Bochs has it.
        Backend::Bochs | Backend::Qemu => {
            add(&["-machine", "pc,accel=tcg", "-cpu", run.backend.cpu_model(run.cpu_model.as_deref())]);
            "ide.0"
        }
        Backend::Kvm => {
            add(&["-machine", "q35,accel=kvm,kernel-irqchip=on"]);
            add(&["-cpu", run.backend.cpu_model(run.cpu_model.as_deref()), "-device", "piix3-ide,id=piix"]);
            "piix.0"
        }
    };
    add(&["-smp", &run.cpus.to_string(), "-m", &run.memory_mib.to_string()]);
    add(&["-display", "none", "-nic", "none", "-no-reboot", "-monitor", "none"]);
    add(&["-chardev", &format!("serial,id=serial,path={serial}"), "-serial", "chardev:serial"]);
    add(&["-drive", &drive("cd", &run.image, "media=cdrom,readonly=on")?]);
    add(&["-device", &format!("ide-cd,drive=cd,bus={bus},unit=1,bootindex=0")]);
    if let Some(disk) = &run.disk {
        add(&["-drive", &drive("disk", disk, "cache=writeback")?]);
        add(&["-device", &format!("ide-hd,drive=disk,bus={bus},unit=0")]);
    }
    // The log of resets tells a triple fault from a power-off.
    add(&["-d", "cpu_reset", "-D", "qemu.log"]);
    Ok(arguments)
}

/// The value of a `-drive` option; QEMU doubles commas in it.
fn drive(id: &str, path: &Path, options: &str) -> Result<String, HarnessError> {
    let absolute = std::path::absolute(path).map_err(HarnessError::file(path))?;
    let text = absolute.to_str().ok_or_else(|| HarnessError::Path(path.to_owned()))?;
    Ok(format!("if=none,id={id},format=raw,{options},file={}", text.replace(',', ",,")))
}

/// Reads what a run left.
pub(crate) fn interpret(directory: &Path, succeeded: bool) -> Ended {
    let log = fs::read(directory.join("qemu.log")).unwrap_or_default();
    let console = fs::read(directory.join("emulator.out")).unwrap_or_default();
    let end = if String::from_utf8_lossy(&log).contains("Triple fault") {
        End::TripleFault
    } else if succeeded {
        End::PoweredOff
    } else {
        End::EmulatorFailed(String::from_utf8_lossy(&console).trim().to_owned())
    };
    Ended { end, ticks: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_in_a_path_are_doubled() {
        assert_eq!(
            drive("cd", Path::new("/a,b"), "media=cdrom").unwrap(),
            "if=none,id=cd,format=raw,media=cdrom,file=/a,,b"
        );
    }
}
