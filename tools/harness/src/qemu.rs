//! QEMU: its command lines, and what its log says about the end.

use std::{ffi::OsString, fs, path::Path, process::Command};

use bulkhead_manifest::Model;

use crate::{
    Backend, End, HarnessError, NestedVmx, PciDevice, Run,
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
        Backend::Bochs | Backend::Qemu if run.devices.is_empty() && !run.iommu => {
            add(&["-machine", "pc,accel=tcg", "-cpu", run.backend.cpu_model(run.cpu_model.as_deref())]);
            "ide.0"
        }
        // With PCI Express, to which an IOMMU and newer devices belong.
        Backend::Bochs | Backend::Qemu | Backend::Kvm => {
            add(&[
                "-machine",
                match (run.backend, run.iommu) {
                    (Backend::Kvm, false) => "q35,accel=kvm,kernel-irqchip=on",
                    (Backend::Kvm, true) => "q35,accel=kvm,kernel-irqchip=split",
                    (Backend::Bochs | Backend::Qemu, _) => "q35,accel=tcg,kernel-irqchip=off",
                },
            ]);
            if run.iommu {
                // Before all devices that it is to confine.
                add(&["-device", "intel-iommu,intremap=on"]);
            }
            add(&["-cpu", run.backend.cpu_model(run.cpu_model.as_deref()), "-device", "piix3-ide,id=piix"]);
            "piix.0"
        }
    };
    add(&["-smp", &run.cpus.to_string(), "-m", &run.memory_mib.to_string()]);
    for (number, node) in run.nodes.iter().enumerate() {
        let cpus: String = node.cpus.iter().map(|cpu| format!(",cpus={cpu}")).collect();
        add(&["-object", &format!("memory-backend-ram,id=memory{number},size={}M", node.memory_mib)]);
        add(&["-numa", &format!("node,nodeid={number},memdev=memory{number}{cpus}")]);
    }
    add(&["-display", "none", "-nic", "none", "-no-reboot", "-monitor", "none"]);
    add(&["-chardev", &format!("serial,id=serial,path={serial}"), "-serial", "chardev:serial"]);
    add(&["-drive", &drive("cd", &run.image, "media=cdrom,readonly=on")?]);
    add(&["-device", &format!("ide-cd,drive=cd,bus={bus},unit=1,bootindex=0")]);
    if let Some(disk) = &run.disk {
        add(&["-drive", &drive("disk", disk, "cache=writeback")?]);
        add(&["-device", &format!("ide-hd,drive=disk,bus={bus},unit=0")]);
    }
    if run.devices.iter().any(|device| device.model.has_network()) {
        // All cards are on one network with QEMU's own: 10.0.2.2 answers, without any right of the host's.
        add(&["-netdev", "user,id=nat", "-netdev", "hubport,id=gateway,hubid=0,netdev=nat"]);
    }
    for (index, device) in run.devices.iter().enumerate() {
        let place = format!("bus=pcie.0,addr={:#x}", FIRST_PLACE + index);
        for word in device_arguments(index, device, &place, run.iommu)? {
            add(&[&word]);
        }
    }
    // The log of resets tells a triple fault from a power-off.
    add(&["-d", "cpu_reset", "-D", "qemu.log"]);
    Ok(arguments)
}

/// Number on bus 0 of the first of a run's devices: behind those that the machine has itself.
const FIRST_PLACE: usize = 0x10;

/// The arguments that put a device into the machine.
fn device_arguments(index: usize, device: &PciDevice, place: &str, iommu: bool) -> Result<Vec<String>, HarnessError> {
    let (id, network) = (format!("disk{index}"), format!("net{index}"));
    let mut arguments = Vec::new();
    if let Some(disk) = &device.disk {
        arguments.extend(["-drive".to_owned(), drive(&id, disk, "cache=writeback")?]);
    }
    let card = |name: &str| format!("{name},netdev={network},mac=52:54:00:12:34:{:02x},{place}", 0x56 + index);
    // QEMU's virtio devices pass the IOMMU by unless they are told not to.
    let virtio = if iommu { "disable-legacy=on,iommu_platform=on" } else { "disable-legacy=on" };
    let options = match device.model {
        Model::Ahci => format!("ahci,id=ahci{index},{place}"),
        Model::Nvme => format!("nvme,drive={id},serial=bulkhead{index},{place}"),
        Model::VirtioBlk => format!("virtio-blk-pci,drive={id},serial=bulkhead{index},{virtio},{place}"),
        Model::Edu => format!("edu,dma_mask={:#x},{place}", u64::MAX),
        Model::E1000 => card("e1000"),
        Model::E1000e => card("e1000e"),
        Model::VirtioNet => card(&format!("virtio-net-pci,{virtio}")),
    };
    if device.model.has_network() {
        arguments.extend(["-netdev".to_owned(), format!("hubport,id={network},hubid=0")]);
    }
    arguments.extend(["-device".to_owned(), options]);
    if device.model == Model::Ahci {
        arguments.extend(["-device".to_owned(), format!("ide-hd,drive={id},bus=ahci{index}.0")]);
    }
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
    fn every_model_has_its_place_and_what_belongs_to_it() {
        for (index, model) in Model::ALL.into_iter().enumerate() {
            let disk = model.has_disk().then(|| Path::new("/disk").to_owned());
            let words =
                device_arguments(index, &PciDevice { model, disk }, "bus=pcie.0,addr=0x10", true).unwrap().join(" ");
            assert!(words.contains("bus=pcie.0,addr=0x10"), "{words}");
            assert_eq!(words.contains(&format!("drive=disk{index}")), model.has_disk(), "{words}");
            assert_eq!(
                words.contains(&format!("-netdev hubport,id=net{index},hubid=0")),
                model.has_network(),
                "{words}"
            );
        }
    }

    #[test]
    fn commas_in_a_path_are_doubled() {
        assert_eq!(
            drive("cd", Path::new("/a,b"), "media=cdrom").unwrap(),
            "if=none,id=cd,format=raw,media=cdrom,file=/a,,b"
        );
    }
}
