//! The files that manifests name by `debian:` and `builtin:`.
//!
//! - `debian:PACKAGE` is the Linux kernel of a Debian package, or of the package that it depends on, as a bzImage;
//!   `debian:PACKAGE#vmlinux` is the ELF file that is compressed in it. Some packages of other kernels and firmware are
//!   known, too: `memtest86+`, `gnumach-image-1.8-486:i386`, `seabios`.
//! - `builtin:checks` is an initial RAM disk that checks its machine and says so on the console ([`checks`]);
//!   `builtin:checks#PACKAGE` is the same for another kernel than that of `linux-image-cloud-amd64`.
//! - `builtin:reads` is one that reads the disk, and prints what it costs ([`reads`]); `builtin:stream` is one that sends a stream
//!   ([`stream`]).
//!
//! `PACKAGE:i386` is a package of that architecture.
//!
//! Owns: the cache under `target/guest-images`. Everything in it is renamed to its place when it is whole, so that
//! whatever is there can be used, and an interrupted download leaves nothing but a directory that the next one removes.
//!
//! Must never: change the state of the host's package manager, install anything, or use the network to
//! [`find`](GuestImages::find).
#![forbid(unsafe_code)]

mod architecture;
mod bzimage;
pub mod checks;
pub mod cpio;
mod elf;
mod error;
mod fetch;
mod first_program;
mod kernels;
mod package;
pub mod reads;
mod reference;
pub mod stream;
mod vmlinux;

pub use error::GuestImageError;
pub use reference::{KernelForm, Reference};

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

use architecture::Architecture;
use fetch::Fetch;
use package::Package;
use reference::CHECKS_KERNEL;

/// The package that the checks' programs come from, of the kernel's architecture.
const BUSYBOX: &str = "busybox-static";

/// The guests' files, in a cache.
pub struct GuestImages<'a> {
    directory: PathBuf,
    workload: &'a Path,
    progress: &'a dyn Fn(&str),
}

impl<'a> GuestImages<'a> {
    /// The cache in `directory`, which is made when it is needed. `workload` is the built program of the checks;
    /// `progress` hears of downloads, which take long.
    pub fn new(directory: &Path, workload: &'a Path, progress: &'a dyn Fn(&str)) -> Self {
        Self { directory: directory.to_owned(), workload, progress }
    }

    /// The file, if everything that it takes is there; never uses the network.
    ///
    /// # Errors
    /// If there can be no such file, or it cannot be written.
    pub fn find(&self, reference: &str) -> Result<Option<PathBuf>, GuestImageError> {
        let reference: Reference = reference.parse()?;
        self.make(&reference, &|package| Ok(Package::open(&self.packages().join(package))))
    }

    /// The file, fetched if it has to be.
    ///
    /// # Errors
    /// As [`find`](Self::find), and if the machine cannot fetch it: with the commands that would do.
    pub fn provide(&self, reference: &str) -> Result<PathBuf, GuestImageError> {
        let parsed: Reference = reference.parse()?;
        let made = self.make(&parsed, &|package| self.fetch(package).map(Some))?;
        made.ok_or_else(|| GuestImageError::UnknownReference(reference.to_owned()))
    }

    fn packages(&self) -> PathBuf {
        self.directory.join("packages")
    }

    /// The file that `reference` names, from the packages that `package` finds.
    fn make(
        &self,
        reference: &Reference,
        package: &dyn Fn(&str) -> Result<Option<Package>, GuestImageError>,
    ) -> Result<Option<PathBuf>, GuestImageError> {
        match reference {
            Reference::Debian { package: name, form } => {
                let Some(kernel) = package(name)? else {
                    return Ok(None);
                };
                let path = kernel.kernel()?;
                match form {
                    KernelForm::BzImage => Ok(Some(path)),
                    KernelForm::Vmlinux => self.vmlinux(&path).map(Some),
                }
            }
            Reference::Checks { kernel: name } => {
                let (_, architecture) = Architecture::of(name);
                let (Some(kernel), Some(busybox)) = (package(name)?, package(&architecture.package(BUSYBOX))?) else {
                    return Ok(None);
                };
                let workload = match architecture {
                    Architecture::Amd64 => fs::read(self.workload).map_err(GuestImageError::file(self.workload))?,
                    Architecture::I386 => checks::WORKLOAD_SCRIPT.into(),
                };
                let archive = checks::initramfs(architecture, &busybox.busybox()?, &workload, &kernel.modules()?);
                self.keep(&format!("checks-{name}.cpio"), &archive).map(Some)
            }
            Reference::Reads => {
                let (Some(kernel), Some(busybox)) = (package(CHECKS_KERNEL)?, package(BUSYBOX)?) else {
                    return Ok(None);
                };
                let workload = fs::read(self.workload).map_err(GuestImageError::file(self.workload))?;
                let archive = reads::initramfs(&busybox.busybox()?, &workload, &kernel.modules_of_disks()?);
                self.keep("reads.cpio", &archive).map(Some)
            }
            Reference::Stream => {
                let (Some(kernel), Some(busybox)) = (package(stream::KERNEL)?, package(BUSYBOX)?) else {
                    return Ok(None);
                };
                let workload = fs::read(self.workload).map_err(GuestImageError::file(self.workload))?;
                let archive = stream::initramfs(&busybox.busybox()?, &workload, &kernel.modules_of_cards()?);
                self.keep("stream.cpio", &archive).map(Some)
            }
        }
    }

    fn vmlinux(&self, bzimage: &Path) -> Result<PathBuf, GuestImageError> {
        let name = bzimage.file_name().unwrap_or_default().to_string_lossy();
        let name = name.replacen("vmlinuz", "vmlinux", 1);
        let path = self.directory.join(&name);
        if path.is_file() {
            return Ok(path);
        }
        let bytes = fs::read(bzimage).map_err(GuestImageError::file(bzimage))?;
        let payload = bzimage::payload(&bytes).and_then(|payload| vmlinux::extract(&payload));
        let elf = payload.map_err(|reason| GuestImageError::Kernel { path: bzimage.to_owned(), reason })?;
        self.keep(&name, &elf)
    }

    /// Writes a file of the cache, unless it is there with the same bytes.
    fn keep(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, GuestImageError> {
        let path = self.directory.join(name);
        if fs::read(&path).is_ok_and(|there| there == bytes) {
            return Ok(path);
        }
        let unfinished = tempfile::NamedTempFile::new_in(&self.directory);
        let mut unfinished = unfinished.map_err(GuestImageError::file(&path))?;
        unfinished.write_all(bytes).map_err(GuestImageError::file(&path))?;
        match unfinished.persist(&path) {
            Ok(_) => Ok(path),
            Err(failed) => Err(GuestImageError::file(&path)(failed.error)),
        }
    }

    /// The package, from the cache or else from Debian.
    fn fetch(&self, name: &str) -> Result<Package, GuestImageError> {
        let place = self.packages().join(name);
        if let Some(package) = Package::open(&place) {
            return Ok(package);
        }
        fs::create_dir_all(self.packages()).map_err(GuestImageError::file(&self.directory))?;
        let _turn = self.lock()?;
        if let Some(package) = Package::open(&place) {
            return Ok(package);
        }
        (self.progress)(&format!("fetching Debian's {name}"));
        let work = fetch::work_directory(&self.directory)?;
        let unpacked = Fetch::new(work.path())?.package(name)?;
        package::select(&unpacked, &work.path().join("selected"), name)?;
        // One of an earlier selection makes room.
        if place.exists() {
            fs::remove_dir_all(&place).map_err(GuestImageError::file(&place))?;
        }
        fs::rename(work.path().join("selected"), &place).map_err(GuestImageError::file(&place))?;
        Package::open(&place).ok_or_else(|| GuestImageError::Contents {
            package: name.to_owned(),
            missing: "anything that is wanted of it",
        })
    }

    /// One process at a time fetches.
    fn lock(&self) -> Result<File, GuestImageError> {
        let path = self.directory.join("lock");
        let file = File::create(&path).and_then(|file| file.lock().map(|()| file));
        file.map_err(GuestImageError::file(&path))
    }
}

#[cfg(test)]
#[path = "lib_test.rs"]
mod test;
