//! A CD that a PC BIOS starts: GRUB's core with an embedded configuration, and an El Torito record for it.

use std::{ffi::OsString, fs, path::Path, process::Command};

use tempfile::{NamedTempFile, TempDir};

use crate::{ImageError, tool};

/// A CD that is being made.
pub(crate) struct Cd {
    work: TempDir,
}

/// Name of GRUB's core, on the CD and in the directory where the CD is made.
const LOADER: &str = "loader";

impl Cd {
    /// A CD whose GRUB has these modules in its core, and carries out `configuration`. Its rescue parser reads that: one
    /// command a line, no quoting.
    pub fn new(configuration: &str, grub_modules: &[&str]) -> Result<Self, ImageError> {
        tool::check_tools()?;
        let work = TempDir::new().map_err(|error| ImageError::File { path: std::env::temp_dir(), error })?;
        let file = work.path().join("grub.cfg");
        write(&file, configuration.as_bytes())?;
        build_loader(&file, grub_modules, &work.path().join(LOADER))?;
        Ok(Self { work })
    }

    /// Writes the CD to `out`, with files by their names on it.
    pub fn write(&self, files: &[(&str, &Path)], out: &Path) -> Result<(), ImageError> {
        // Renamed when it is whole: a machine may still run from the former image.
        let parent = match out.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let unfinished =
            NamedTempFile::new_in(parent).map_err(|error| ImageError::File { path: out.to_owned(), error })?;
        let mut xorriso = Command::new("xorriso");
        xorriso.args(["-as", "mkisofs", "-quiet", "-R", "-b", LOADER]);
        xorriso
            .args(["-no-emul-boot", "-boot-load-size", "4", "-boot-info-table"])
            .arg("-o")
            .arg(unfinished.path())
            .arg("-graft-points");
        xorriso.arg(graft(LOADER, &self.work.path().join(LOADER)));
        for (name, path) in files {
            xorriso.arg(graft(name, path));
        }
        run("xorriso", &mut xorriso)?;
        unfinished
            .persist(out)
            .map(drop)
            .map_err(|failed| ImageError::File { path: out.to_owned(), error: failed.error })
    }
}

/// GRUB's core behind its CD boot sector.
fn build_loader(configuration: &Path, grub_modules: &[&str], out: &Path) -> Result<(), ImageError> {
    let core = out.with_extension("core");
    let mut mkimage = Command::new("grub-mkimage");
    mkimage.args(["-O", "i386-pc", "-d", tool::GRUB_DIRECTORY, "-p", "/", "-c"]).arg(configuration);
    mkimage.arg("-o").arg(&core).args(grub_modules);
    run("grub-mkimage", &mut mkimage)?;
    let mut loader = read(&Path::new(tool::GRUB_DIRECTORY).join("cdboot.img"))?;
    loader.extend(read(&core)?);
    write(out, &loader)
}

/// `name on the CD=path on the host`, with the path's own `=` and `\` escaped.
fn graft(name: &str, path: &Path) -> OsString {
    let escaped = path.to_string_lossy().replace('\\', "\\\\").replace('=', "\\=");
    OsString::from(format!("{name}={escaped}"))
}

fn run(program: &'static str, command: &mut Command) -> Result<(), ImageError> {
    let output = command.output().map_err(|error| ImageError::File { path: program.into(), error })?;
    if output.status.success() {
        return Ok(());
    }
    let messages = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
    Err(ImageError::ToolFailed { program, messages })
}

fn read(path: &Path) -> Result<Vec<u8>, ImageError> {
    fs::read(path).map_err(|error| ImageError::File { path: path.to_owned(), error })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
    fs::write(path, bytes).map_err(|error| ImageError::File { path: path.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_with_equal_signs_survive() {
        assert_eq!(graft("m00", Path::new("/a=b/c\\d")), OsString::from("m00=/a\\=b/c\\\\d"));
    }
}
