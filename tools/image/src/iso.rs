//! The image itself: kernel, plan and modules on a CD, started by multiboot2.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    path::Path,
};

use tempfile::NamedTempFile;

use crate::{ImageError, Module, cd::Cd, module};

/// What GRUB's core needs: the CD through the BIOS, its file system, and the boot protocol.
const GRUB_MODULES: [&str; 3] = ["biosdisk", "iso9660", "multiboot2"];

/// Writes a bootable image to `out`: GRUB starts `kernel` by multiboot2 with `plan` as the first module, named `plan`,
/// then `modules` in their order. A module's name is its multiboot2 string.
///
/// # Errors
/// Missing host tools, all in one error; modules that clash with one another or with `plan`; files that cannot be read
/// or written; a host tool that fails.
pub fn build_image(kernel: &Path, plan: &[u8], modules: &[Module], out: &Path) -> Result<(), ImageError> {
    let plan_file = plan_file(plan).map_err(|error| ImageError::File { path: std::env::temp_dir(), error })?;
    let mut all = vec![Module::new("plan", plan_file.path())?];
    all.extend_from_slice(modules);
    module::check_set(&all)?;

    let cd = Cd::new(&grub_configuration(&all), &GRUB_MODULES)?;
    let names: Vec<_> = (0..all.len()).map(file_on_cd).collect();
    let mut files = vec![("kernel", kernel)];
    files.extend(names.iter().map(String::as_str).zip(all.iter().map(Module::path)));
    cd.write(&files, out)
}

fn plan_file(plan: &[u8]) -> io::Result<NamedTempFile> {
    let mut file = NamedTempFile::new()?;
    file.write_all(plan)?;
    Ok(file)
}

/// GRUB's commands. Its rescue parser reads them: one a line, no quoting, which [`Module::new`] makes safe.
fn grub_configuration(modules: &[Module]) -> String {
    let mut text = String::from("multiboot2 (cd)/kernel\n");
    for (index, module) in modules.iter().enumerate() {
        // Writing to a String does not fail.
        let _ = writeln!(text, "module2 (cd)/{} {}", file_on_cd(index), module.name());
    }
    text.push_str("boot\n");
    text
}

/// A module's file on the CD; modules' names may hold slashes, files do not.
fn file_on_cd(index: usize) -> String {
    format!("m{index:02}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool;
    use std::fs;
    use tempfile::TempDir;

    #[test]
    fn configuration_loads_plan_first() {
        let modules = [
            Module::new("plan", Path::new("/dev/null")).unwrap(),
            Module::new("linux/kernel", Path::new("/dev/null")).unwrap(),
        ];
        assert_eq!(
            grub_configuration(&modules),
            "multiboot2 (cd)/kernel\nmodule2 (cd)/m00 plan\nmodule2 (cd)/m01 linux/kernel\nboot\n"
        );
    }

    #[test]
    fn image_is_a_bootable_cd() {
        if tool::check_tools().is_err() {
            eprintln!("skipped: GRUB or xorriso is not installed");
            return;
        }
        let directory = TempDir::new().unwrap();
        let kernel = directory.path().join("ker=nel");
        fs::write(&kernel, b"not a kernel").unwrap();
        let out = directory.path().join("image.iso");
        let module = Module::new("hello", &kernel).unwrap();
        build_image(&kernel, b"plan bytes", &[module], &out).unwrap();
        let image = fs::read(&out).unwrap();
        assert_eq!(&image[16 * 2048 + 1..16 * 2048 + 6], b"CD001");
        assert_eq!(&image[17 * 2048 + 7..17 * 2048 + 30], b"EL TORITO SPECIFICATION");
        assert!(image.windows(10).any(|window| window == b"plan bytes"));
    }

    #[test]
    fn a_module_named_plan_clashes() {
        if tool::check_tools().is_err() {
            return;
        }
        let module = Module::new("plan", Path::new("/dev/null")).unwrap();
        let error = build_image(Path::new("/dev/null"), b"", &[module], Path::new("/nonexistent/x")).unwrap_err();
        assert!(matches!(error, ImageError::DuplicateModule { .. }));
    }
}
