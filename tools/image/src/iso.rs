//! The image itself: GRUB's core with an embedded configuration, and an El Torito CD around it.

use std::{ffi::OsString, fmt::Write as _, fs, path::Path, process::Command};

use tempfile::{NamedTempFile, TempDir};

use crate::{ImageError, Module, module, tool};

/// What GRUB's core needs: the CD through the BIOS, its file system, and the boot protocol.
const GRUB_MODULES: [&str; 3] = ["biosdisk", "iso9660", "multiboot2"];

/// Writes a bootable image to `out`: GRUB starts `kernel` by multiboot2 with `plan` as the first module, named `plan`,
/// then `modules` in their order. A module's name is its multiboot2 string.
///
/// # Errors
/// Missing host tools, all in one error; modules that clash with one another or with `plan`; files that cannot be read
/// or written; a host tool that fails.
pub fn build_image(
    kernel: &Path,
    plan: &[u8],
    modules: &[Module],
    out: &Path,
) -> Result<(), ImageError> {
    tool::check_tools()?;
    let work = TempDir::new().map_err(|error| ImageError::File {
        path: std::env::temp_dir(),
        error,
    })?;

    let plan_file = work.path().join("plan");
    write(&plan_file, plan)?;
    let mut all = vec![Module::new("plan", &plan_file)?];
    all.extend_from_slice(modules);
    module::check_set(&all)?;

    let configuration = work.path().join("grub.cfg");
    write(&configuration, grub_configuration(&all).as_bytes())?;
    let loader = work.path().join("loader");
    build_loader(&configuration, &loader)?;

    // Renamed when it is whole: a machine may still run from the former image.
    let parent = match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let unfinished = NamedTempFile::new_in(parent).map_err(|error| ImageError::File {
        path: out.to_owned(),
        error,
    })?;
    let mut xorriso = Command::new("xorriso");
    xorriso.args([
        "-as",
        "mkisofs",
        "-quiet",
        "-R",
        "-b",
        "loader",
        "-no-emul-boot",
    ]);
    xorriso
        .args(["-boot-load-size", "4", "-boot-info-table", "-o"])
        .arg(unfinished.path())
        .arg("-graft-points");
    xorriso
        .arg(graft("loader", &loader))
        .arg(graft("kernel", kernel));
    for (index, module) in all.iter().enumerate() {
        xorriso.arg(graft(&file_on_cd(index), module.path()));
    }
    run("xorriso", &mut xorriso)?;
    unfinished
        .persist(out)
        .map(drop)
        .map_err(|failed| ImageError::File {
            path: out.to_owned(),
            error: failed.error,
        })
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

/// GRUB's core behind its CD boot sector.
fn build_loader(configuration: &Path, out: &Path) -> Result<(), ImageError> {
    let core = out.with_extension("core");
    let mut mkimage = Command::new("grub-mkimage");
    mkimage
        .args(["-O", "i386-pc", "-d", tool::GRUB_DIRECTORY, "-p", "/", "-c"])
        .arg(configuration);
    mkimage.arg("-o").arg(&core).args(GRUB_MODULES);
    run("grub-mkimage", &mut mkimage)?;
    let mut loader = read(&Path::new(tool::GRUB_DIRECTORY).join("cdboot.img"))?;
    loader.extend(read(&core)?);
    write(out, &loader)
}

/// `name on the CD=path on the host`, with the path's own `=` and `\` escaped.
fn graft(name: &str, path: &Path) -> OsString {
    let escaped = path
        .to_string_lossy()
        .replace('\\', "\\\\")
        .replace('=', "\\=");
    OsString::from(format!("{name}={escaped}"))
}

fn run(program: &'static str, command: &mut Command) -> Result<(), ImageError> {
    let output = command.output().map_err(|error| ImageError::File {
        path: program.into(),
        error,
    })?;
    if output.status.success() {
        return Ok(());
    }
    let messages = String::from_utf8_lossy(&output.stderr)
        .trim_end()
        .to_owned();
    Err(ImageError::ToolFailed { program, messages })
}

fn read(path: &Path) -> Result<Vec<u8>, ImageError> {
    fs::read(path).map_err(|error| ImageError::File {
        path: path.to_owned(),
        error,
    })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
    fs::write(path, bytes).map_err(|error| ImageError::File {
        path: path.to_owned(),
        error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn paths_with_equal_signs_survive() {
        assert_eq!(
            graft("m00", Path::new("/a=b/c\\d")),
            OsString::from("m00=/a\\=b/c\\\\d")
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
        write(&kernel, b"not a kernel").unwrap();
        let out = directory.path().join("image.iso");
        let module = Module::new("hello", &kernel).unwrap();
        build_image(&kernel, b"plan bytes", &[module], &out).unwrap();
        let image = read(&out).unwrap();
        assert_eq!(&image[16 * 2048 + 1..16 * 2048 + 6], b"CD001");
        assert_eq!(
            &image[17 * 2048 + 7..17 * 2048 + 30],
            b"EL TORITO SPECIFICATION"
        );
        assert!(image.windows(10).any(|window| window == b"plan bytes"));
    }

    #[test]
    fn a_module_named_plan_clashes() {
        if tool::check_tools().is_err() {
            return;
        }
        let module = Module::new("plan", Path::new("/dev/null")).unwrap();
        let error = build_image(
            Path::new("/dev/null"),
            b"",
            &[module],
            Path::new("/nonexistent/x"),
        )
        .unwrap_err();
        assert!(matches!(error, ImageError::DuplicateModule { .. }));
    }
}
