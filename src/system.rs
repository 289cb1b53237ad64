//! A system as a manifest describes it: compiled, built into an image, and matched with a machine.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
};

use bulkhead_guest_images::checks::INTERACTIVE;
use bulkhead_harness::{Backend, NumaNode, PciDevice};
use bulkhead_image::Module;
use bulkhead_manifest::{Compiled, Options, Tracing};
use miette::Diagnostic;
use thiserror::Error;

use crate::{
    programs::{self, KERNEL},
    progress::Step,
};

/// Granularity of disks, which IDE addresses by sector and emulators by cylinder.
const CYLINDER_BYTES: u64 = 16 * 63 * 512;

/// Why a system cannot be built or does not fit a machine.
#[derive(Debug, Error, Diagnostic)]
pub enum SystemError {
    /// Fewer processors or less memory than the manifest hands out.
    #[error("the manifest needs {needed} {unit}, the machine would have {given}")]
    #[diagnostic(help("run with {option} {needed} or more"))]
    MachineTooSmall { needed: u64, given: u64, unit: &'static str, option: &'static str },
    /// The processor cannot do what a partition needs.
    #[error("{partition} needs {missing}, which {machine} does not have")]
    #[diagnostic(help("{help}"))]
    MissingFeature { partition: String, missing: String, machine: String, help: &'static str },
    /// The manifest has no name that a directory could have.
    #[error("{}: no name of a manifest", .0.display())]
    #[diagnostic(help("name a manifest, such as partitions/default.toml"))]
    ManifestName(PathBuf),
    /// A disk that the manifest's ranges do not fit in.
    #[error("{}: the disk has {given} bytes, the manifest needs {needed}", path.display())]
    #[diagnostic(help("remove the file, or name another with --disk; it is made if it is not there"))]
    DiskTooSmall { path: PathBuf, given: u64, needed: u64 },
    /// A file could not be made or read.
    #[error("{}: {error}", path.display())]
    File {
        path: PathBuf,
        #[source]
        error: std::io::Error,
    },
}

pub fn file_error(path: &Path) -> impl FnOnce(std::io::Error) -> SystemError {
    let path = path.to_owned();
    |error| SystemError::File { path, error }
}

/// What the manifest compiler is told about this checkout.
pub fn options(programs: &BTreeMap<String, PathBuf>) -> Options<'_> {
    Options {
        initrd_arguments: "",
        statistics: false,
        trace: None,
        end_after_us: None,
        programs: Some(programs),
        image_resolver: &programs::find_guest_image,
    }
}

/// Where everything goes that is made for a manifest, by its file name; made if it is not there.
pub fn directory(manifest: &Path) -> Result<PathBuf, SystemError> {
    let name = manifest.file_stem().ok_or_else(|| SystemError::ManifestName(manifest.to_owned()))?;
    let directory = programs::target_directory().join("systems").join(name);
    fs::create_dir_all(&directory).map_err(file_error(&directory))?;
    Ok(directory)
}

/// What a system is compiled for.
#[derive(Clone, Copy, Default)]
pub struct Purpose {
    /// Somebody is at its terminal.
    pub interactive: bool,
    /// Exits of its guests are to be counted.
    pub statistics: bool,
    /// What happens on its CPUs is to be recorded.
    pub trace: Option<Tracing>,
    /// It ends after so many microseconds, whatever the manifest says.
    pub end_after_us: Option<u64>,
}

/// A compiled manifest.
pub struct System {
    compiled: Compiled,
}

impl System {
    /// Compiles the manifest for a system that nobody watches. `None` if it is wrong, after everything that is wrong has
    /// been shown.
    pub fn compile(manifest: &Path) -> miette::Result<Option<Self>> {
        Self::compile_for(manifest, Purpose::default())
    }

    /// The same for something else.
    pub fn compile_for(manifest: &Path, purpose: Purpose) -> miette::Result<Option<Self>> {
        let programs = programs::programs();
        let options = Options {
            initrd_arguments: if purpose.interactive { INTERACTIVE } else { "" },
            statistics: purpose.statistics,
            trace: purpose.trace,
            end_after_us: purpose.end_after_us,
            image_resolver: &programs::provide_guest_image,
            ..options(&programs)
        };
        let step = Step::begin(format!("compiling {}", manifest.display()));
        let result = bulkhead_manifest::compile(manifest, &options);
        step.done();
        match result {
            Ok(compiled) => {
                if !compiled.warnings.is_empty() {
                    eprint!("{}", bulkhead_manifest::render(&compiled.warnings));
                }
                Ok(Some(Self { compiled }))
            }
            Err(diagnostics) => {
                eprint!("{}", bulkhead_manifest::render(&diagnostics));
                Ok(None)
            }
        }
    }

    /// Builds the bootable image: the plan, init, and what the plan names.
    pub fn build_image(&self, output: &Path) -> miette::Result<()> {
        self.build_image_with(Path::new(KERNEL), output)
    }

    /// The same with another kernel.
    pub fn build_image_with(&self, kernel: &Path, output: &Path) -> miette::Result<()> {
        let step = Step::begin(format!("building {}", output.display()));
        let init = programs::programs().remove("init").unwrap_or_default();
        let mut modules = vec![Module::new("init", &init)?];
        for (name, path) in &self.compiled.modules {
            modules.push(Module::new(name, path)?);
        }
        bulkhead_image::build_image(kernel, &self.compiled.plan, &modules, output)?;
        step.done();
        Ok(())
    }

    /// The machine's processors: what was asked for, if that is enough.
    pub fn cpus(&self, asked: Option<u32>) -> Result<u32, SystemError> {
        let needed = self.compiled.needs.cpus;
        let given = asked.unwrap_or(needed);
        enough(u64::from(needed), u64::from(given), "CPUs", "--cpus")?;
        Ok(given)
    }

    /// The machine's memory in MiB: what was asked for, if that is enough.
    pub fn memory_mib(&self, asked: Option<u32>) -> Result<u32, SystemError> {
        let needed = self.compiled.needs.memory_mib;
        let given = asked.map_or(needed, u64::from);
        enough(needed, given, "MiB of memory", "--memory")?;
        // No emulator of ours has 4 PiB.
        Ok(u32::try_from(given).unwrap_or(u32::MAX))
    }

    /// Refuses a backend whose processor is known to lack what a partition needs, and names both.
    pub fn check_features(&self, backend: Backend, model: Option<&str>) -> Result<(), SystemError> {
        let Some(has) = backend.features(model) else {
            return Ok(());
        };
        let lacking = self.compiled.needs.features_by_partition.iter().find(|(_, needs)| !has.contains(*needs));
        let Some((partition, needs)) = lacking else {
            return Ok(());
        };
        let names: Vec<_> = needs.difference(has).iter_names().map(|(name, _)| name).collect();
        let (machine, help) = match (backend, model) {
            (Backend::Qemu, _) => ("QEMU's emulated processor".to_owned(), "use --backend bochs, which emulates VMX"),
            (_, model) => (
                format!("the processor model {}", model.unwrap_or("by default")),
                "choose another with --cpu, such as corei7_skylake_x",
            ),
        };
        Err(SystemError::MissingFeature { partition: partition.clone(), missing: names.join(", "), machine, help })
    }

    /// The disk's image, made or enlarged to what the manifest needs; `None` if it needs none and none was asked for.
    pub fn disk(&self, asked: Option<&Path>, directory: &Path) -> Result<Option<PathBuf>, SystemError> {
        let needed = self.compiled.needs.disk_bytes;
        let path = match (asked, needed) {
            (Some(path), _) => path.to_owned(),
            (None, Some(_)) => directory.join("disk.img"),
            (None, None) => return Ok(None),
        };
        let needed = needed.unwrap_or(CYLINDER_BYTES).next_multiple_of(CYLINDER_BYTES);
        let given = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
            Err(error) => return Err(file_error(&path)(error)),
        };
        if asked.is_some() && given > 0 && given < needed {
            return Err(SystemError::DiskTooSmall { path, given, needed });
        }
        if given < needed {
            lengthen(&path, needed)?;
        }
        Ok(Some(path))
    }

    /// The devices on the PCI bus; their disks' images are made, or enlarged to what the manifest says.
    pub fn devices(&self, directory: &Path) -> Result<Vec<PciDevice>, SystemError> {
        let mut devices = Vec::new();
        for device in &self.compiled.needs.devices {
            let mut disk = None;
            if let Some(bytes) = device.disk_bytes {
                let path = directory.join(format!("{}.img", device.name));
                if fs::metadata(&path).map_or(0, |metadata| metadata.len()) < bytes {
                    lengthen(&path, bytes)?;
                }
                disk = Some(path);
            }
            devices.push(PciDevice { model: device.model, disk });
        }
        Ok(devices)
    }

    /// The NUMA nodes of a machine with so many processors and so much memory: what it has beyond the manifest's is on the last one.
    pub fn nodes(&self, cpus: u32, memory_mib: u32) -> Vec<NumaNode> {
        let needed = &self.compiled.needs;
        let described = needed.nodes.iter();
        let mut nodes: Vec<_> =
            described.map(|node| NumaNode { memory_mib: node.memory_mib, cpus: node.cpus.clone() }).collect();
        if let Some(last) = nodes.last_mut() {
            last.memory_mib += u64::from(memory_mib).saturating_sub(needed.memory_mib);
            last.cpus.extend(needed.cpus..cpus);
        }
        nodes
    }

    /// Whether the machine has an IOMMU.
    pub fn iommu(&self) -> bool {
        self.compiled.needs.iommu
    }
}

/// Makes a disk's image, or adds empty sectors to it.
fn lengthen(path: &Path, bytes: u64) -> Result<(), SystemError> {
    let file = File::options().write(true).create(true).truncate(false).open(path);
    file.and_then(|file| file.set_len(bytes)).map_err(file_error(path))
}

fn enough(needed: u64, given: u64, unit: &'static str, option: &'static str) -> Result<(), SystemError> {
    if given < needed {
        return Err(SystemError::MachineTooSmall { needed, given, unit, option });
    }
    Ok(())
}
