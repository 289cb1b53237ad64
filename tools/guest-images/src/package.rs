//! A fetched package in the cache: only the files that guests need of it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    GuestImageError,
    checks::{CHANNEL_MODULES, DISK_MODULES, FILE_SYSTEM_MODULES, NETWORK_MODULES},
    kernels,
    reads::IDE_MODULES,
    stream::CARD_MODULES,
};

/// The program of `busybox-static`.
const BUSYBOX: &str = "busybox";
/// Which modules were looked for when the package was fetched: one that lacks some of them is fetched again.
const SELECTION: &str = "selection";

/// The names of all modules that guests may need.
fn wanted() -> impl Iterator<Item = &'static str> {
    let devices = DISK_MODULES.into_iter().chain(NETWORK_MODULES).chain(CHANNEL_MODULES);
    devices.chain(FILE_SYSTEM_MODULES).chain(IDE_MODULES).chain(CARD_MODULES)
}

/// What is written to [`SELECTION`] today.
pub(crate) fn selection() -> String {
    wanted().collect::<Vec<_>>().join("\n")
}

/// A directory with a kernel, such as `vmlinuz-VERSION`, and modules `NAME.ko`, or with `busybox`.
pub(crate) struct Package {
    directory: PathBuf,
}

impl Package {
    /// The package in `directory`, if it has been fetched with all that is wanted of it today.
    pub fn open(directory: &Path) -> Option<Self> {
        let made = fs::read_to_string(directory.join(SELECTION)).ok()?;
        (made == selection()).then(|| Self { directory: directory.to_owned() })
    }

    /// The kernel.
    pub fn kernel(&self) -> Result<PathBuf, GuestImageError> {
        let kernel = kernel_in(&self.directory)?;
        kernel.ok_or_else(|| self.lacks("a kernel"))
    }

    /// The kernel modules that the checks need, by name, in the order in which they are loaded.
    pub fn modules(&self) -> Result<Vec<(&'static str, Vec<u8>)>, GuestImageError> {
        let last = FILE_SYSTEM_MODULES.last().map(|name| self.directory.join(module_file(name)));
        let has_file_system = last.is_some_and(|path| path.is_file());
        let file_system = FILE_SYSTEM_MODULES.iter().filter(|_| has_file_system);
        let devices = DISK_MODULES.iter().chain(&NETWORK_MODULES).chain(&CHANNEL_MODULES);
        self.read_modules(devices.chain(file_system).copied())
    }

    /// The kernel modules for a disk, be it virtio's or IDE, in the order in which they are loaded.
    pub fn modules_of_disks(&self) -> Result<Vec<(&'static str, Vec<u8>)>, GuestImageError> {
        self.read_modules(DISK_MODULES.into_iter().chain(IDE_MODULES))
    }

    /// The kernel modules for a network card, be it virtio's or an e1000, in the order in which they are loaded; a
    /// virtio card takes most of what a virtio disk takes.
    pub fn modules_of_cards(&self) -> Result<Vec<(&'static str, Vec<u8>)>, GuestImageError> {
        self.read_modules(DISK_MODULES.into_iter().chain(NETWORK_MODULES).chain(CARD_MODULES))
    }

    fn read_modules(
        &self,
        names: impl Iterator<Item = &'static str>,
    ) -> Result<Vec<(&'static str, Vec<u8>)>, GuestImageError> {
        let module = |name| read(&self.directory.join(module_file(name))).map(|bytes| (name, bytes));
        names.map(module).collect()
    }

    /// The program `busybox`.
    pub fn busybox(&self) -> Result<Vec<u8>, GuestImageError> {
        read(&self.directory.join(BUSYBOX))
    }

    fn lacks(&self, missing: &'static str) -> GuestImageError {
        let name = self.directory.file_name().unwrap_or_default();
        GuestImageError::Contents { package: name.to_string_lossy().into_owned(), missing }
    }
}

/// Moves what guests need from an unpacked package to `selected`.
pub(crate) fn select(root: &Path, selected: &Path, name: &str) -> Result<(), GuestImageError> {
    fs::create_dir_all(selected).map_err(GuestImageError::file(selected))?;
    let mut found = false;
    let mut keep = |from: &Path, file: &str| {
        found = true;
        fs::rename(from, selected.join(file)).map_err(GuestImageError::file(from))
    };
    let busybox = root.join("bin").join(BUSYBOX);
    if busybox.is_file() {
        keep(&busybox, BUSYBOX)?;
    }
    for directory in kernels::DIRECTORIES {
        let Some(kernel) = kernel_in(&root.join(directory))? else {
            continue;
        };
        let name = file_name(&kernel);
        keep(&kernel, &name)?;
        kernels::unpack(selected, &name)?;
        for path in modules_below(&root.join("lib/modules"))? {
            keep(&path, &file_name(&path))?;
        }
    }
    if !found {
        return Err(GuestImageError::Contents { package: name.to_owned(), missing: "a kernel" });
    }
    let list = selected.join(SELECTION);
    fs::write(&list, selection()).map_err(GuestImageError::file(&list))
}

fn kernel_in(directory: &Path) -> Result<Option<PathBuf>, GuestImageError> {
    if !directory.is_dir() {
        return Ok(None);
    }
    let mut kernels = files(directory)?;
    kernels.retain(|path| kernels::is_kernel(&file_name(path)));
    kernels.sort();
    Ok(kernels.pop())
}

/// The wanted modules, wherever the kernel's version puts them.
fn modules_below(directory: &Path) -> Result<Vec<PathBuf>, GuestImageError> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for path in files(&directory)? {
            let link = path.is_symlink();
            if path.is_dir() && !link {
                directories.push(path);
            } else if !link && wanted().any(|name| file_name(&path) == module_file(name)) {
                found.push(path);
            }
        }
    }
    Ok(found)
}

fn module_file(name: &str) -> String {
    format!("{name}.ko")
}

/// What a directory has; nothing if there is none.
fn files(directory: &Path) -> Result<Vec<PathBuf>, GuestImageError> {
    if !directory.exists() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(directory).map_err(GuestImageError::file(directory))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    paths.collect::<Result<_, _>>().map_err(GuestImageError::file(directory))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn read(path: &Path) -> Result<Vec<u8>, GuestImageError> {
    fs::read(path).map_err(GuestImageError::file(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_needed_is_kept() {
        let place = tempfile::TempDir::new().unwrap();
        let root = place.path().join("root");
        let drivers = root.join("lib/modules/6.1/kernel/drivers");
        fs::create_dir_all(root.join("boot")).unwrap();
        fs::create_dir_all(&drivers).unwrap();
        fs::write(root.join("boot/vmlinuz-6.1"), "kernel").unwrap();
        fs::write(root.join("boot/System.map-6.1"), "map").unwrap();
        fs::write(drivers.join("virtio.ko"), "module").unwrap();
        fs::write(drivers.join("floppy.ko"), "module").unwrap();
        let selected = place.path().join("selected");
        select(&root, &selected, "linux").unwrap();
        let mut names: Vec<_> = files(&selected).unwrap().iter().map(|path| file_name(path)).collect();
        names.sort();
        assert_eq!(names, [SELECTION, "virtio.ko", "vmlinuz-6.1"]);
        assert!(Package::open(&selected).unwrap().kernel().is_ok());
        // One that was fetched when other modules were wanted is fetched again.
        fs::write(selected.join(SELECTION), "virtio").unwrap();
        assert!(Package::open(&selected).is_none());
    }

    #[test]
    fn package_without_anything_is_refused() {
        let place = tempfile::TempDir::new().unwrap();
        let error = select(place.path(), &place.path().join("selected"), "hello").unwrap_err();
        assert!(matches!(error, GuestImageError::Contents { package, .. } if package == "hello"));
    }
}
