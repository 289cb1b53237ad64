//! The emulators, and which of them this host can use.

use std::{fmt, fs, str::FromStr};

use bulkhead_abi::CpuFeatures;
use bulkhead_image::Tool;

use crate::bochs;

/// What runs the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Bochs: VMX with EPT in software, bit-identical runs.
    Bochs,
    /// QEMU's own emulation: fast and without VMX, so native partitions only.
    Qemu,
    /// QEMU with KVM that offers VMX to its guest.
    Kvm,
}

impl Backend {
    /// Every backend.
    pub const ALL: [Self; 3] = [Self::Bochs, Self::Qemu, Self::Kvm];

    /// The fastest backend on which guests run: KVM where nested VMX works, otherwise Bochs.
    pub fn for_guests() -> Self {
        if NestedVmx::detect() == NestedVmx::Available { Self::Kvm } else { Self::Bochs }
    }

    /// The host programs and files that the backend takes.
    pub fn tools(self) -> &'static [Tool] {
        match self {
            Self::Bochs => &[
                Tool { file: "bochs", package: "bochs" },
                Tool { file: "/usr/share/bochs/BIOS-bochs-latest", package: "bochsbios" },
                Tool { file: "/usr/share/bochs/VGABIOS-lgpl-latest", package: "vgabios" },
                Tool { file: "setpriv", package: "util-linux" },
            ],
            Self::Qemu | Self::Kvm => &[
                Tool { file: "qemu-system-x86_64", package: "qemu-system-x86" },
                Tool { file: "setpriv", package: "util-linux" },
            ],
        }
    }

    /// What the backend's processor of this model can do, as far as it matters to partitions; `None` if that shows at boot
    /// only.
    pub fn features(self, model: Option<&str>) -> Option<CpuFeatures> {
        match self {
            Self::Bochs => bochs::features(self.cpu_model(model)),
            Self::Qemu => Some(CpuFeatures::empty()),
            Self::Kvm => None,
        }
    }

    /// The processor model, in the backend's own terms, of a run that asks for this one, or for none.
    pub fn cpu_model(self, asked: Option<&str>) -> &str {
        asked.unwrap_or(match self {
            Self::Bochs => bochs::DEFAULT_CPU,
            Self::Qemu => "max",
            Self::Kvm => "host,+vmx",
        })
    }

    /// The tools that this host lacks.
    pub fn missing_tools(self) -> Vec<Tool> {
        self.tools().iter().copied().filter(|tool| tool.find().is_none()).collect()
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Bochs => "bochs",
            Self::Qemu => "qemu",
            Self::Kvm => "kvm",
        })
    }
}

impl FromStr for Backend {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|backend| backend.to_string() == name)
            .ok_or_else(|| format!("`{name}` is none of bochs, qemu, kvm"))
    }
}

/// Whether KVM on this host can give VMX to a guest. The existence of `/dev/kvm` alone says nothing about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NestedVmx {
    /// Guests of KVM get VMX.
    Available,
    /// The processor shows no VMX.
    NoVmx,
    /// The processor has VMX; `kvm_intel` is absent or offers none to guests.
    NotNested,
    /// `/dev/kvm` cannot be opened by this user.
    NoAccess,
}

impl NestedVmx {
    /// Looks at this host.
    pub fn detect() -> Self {
        let information = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let nested = fs::read_to_string("/sys/module/kvm_intel/parameters/nested").unwrap_or_default();
        let opens = fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok();
        Self::judge(&information, &nested, opens)
    }

    fn judge(information: &str, nested: &str, opens: bool) -> Self {
        let has_vmx = information
            .lines()
            .filter(|line| line.starts_with("flags"))
            .any(|line| line.split_whitespace().any(|flag| flag == "vmx"));
        if !has_vmx {
            Self::NoVmx
        } else if !matches!(nested.trim(), "Y" | "1") {
            Self::NotNested
        } else if !opens {
            Self::NoAccess
        } else {
            Self::Available
        }
    }

    /// What stands in the way, and what mends it, in one line.
    pub fn explanation(self) -> &'static str {
        match self {
            Self::Available => "guests of KVM get VMX",
            Self::NoVmx => "the processor shows no VMX",
            Self::NotNested => "kvm_intel offers no VMX to guests: modprobe -r kvm_intel; modprobe kvm_intel nested=1",
            Self::NoAccess => "/dev/kvm cannot be opened: add this user to the group kvm",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITH_VMX: &str = "processor\t: 0\nflags\t\t: fpu vme vmx ssse3\n";

    #[test]
    fn nested_vmx_takes_flag_parameter_and_access() {
        assert_eq!(NestedVmx::judge(WITH_VMX, "Y\n", true), NestedVmx::Available);
        assert_eq!(NestedVmx::judge(WITH_VMX, "1\n", false), NestedVmx::NoAccess);
        assert_eq!(NestedVmx::judge(WITH_VMX, "N\n", true), NestedVmx::NotNested);
        assert_eq!(NestedVmx::judge(WITH_VMX, "", true), NestedVmx::NotNested);
        assert_eq!(NestedVmx::judge("flags : fpu vmxoff\n", "Y", true), NestedVmx::NoVmx);
        assert_eq!(NestedVmx::judge("model name : vmx\n", "Y", true), NestedVmx::NoVmx);
    }

    #[test]
    fn names_round_trip() {
        for backend in Backend::ALL {
            assert_eq!(backend.to_string().parse(), Ok(backend));
        }
        assert!("vmware".parse::<Backend>().is_err());
    }
}
