//! Downloads packages with the host's package sources, and leaves its package manager's state as it is.

use std::{
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;

use crate::{GuestImageError, architecture::Architecture, kernels, reference::is_package_name};

/// Names of the directories that downloads work in.
const WORK: &str = ".fetch-";
/// Lines of a program's messages that an error repeats.
const MESSAGE_LINES: usize = 6;
/// Metapackages that lead to one another, at most.
const MAX_DEPTH: u32 = 4;

/// A new directory for a download, in `cache`. What interrupted downloads left is removed; the caller holds the cache's
/// lock, so no other download goes on.
pub(crate) fn work_directory(cache: &Path) -> Result<TempDir, GuestImageError> {
    let entries = fs::read_dir(cache).map_err(GuestImageError::file(cache))?;
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(WORK) {
            // It is only in the way of nobody; the next download tries again.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let made = tempfile::Builder::new().prefix(WORK).tempdir_in(cache);
    made.map_err(GuestImageError::file(cache))
}

/// A download, in a directory of its own.
pub(crate) struct Fetch {
    directory: PathBuf,
}

impl Fetch {
    /// A download that works in `directory`.
    pub fn new(directory: &Path) -> Result<Self, GuestImageError> {
        let absolute = std::path::absolute(directory).map_err(GuestImageError::file(directory))?;
        Ok(Self { directory: absolute })
    }

    /// Fetches a package and unpacks it; returns the directory that its files are in. A package without a kernel or
    /// program stands for the Linux image that it depends on, as Debian's metapackages do.
    pub fn package(&self, name: &str) -> Result<PathBuf, GuestImageError> {
        let mut name = name.to_owned();
        for _ in 0..MAX_DEPTH {
            let archive = self.download(&name)?;
            let root = self.directory.join(format!("root-{name}"));
            self.dpkg_deb(&name, &["--extract".as_ref(), archive.as_ref(), root.as_ref()])?;
            if kernels::DIRECTORIES.iter().chain(&["bin"]).any(|directory| root.join(directory).is_dir()) {
                return Ok(root);
            }
            let fields = ["--field".as_ref(), archive.as_ref(), "Depends".as_ref()];
            let depends = self.dpkg_deb(&name, &fields)?;
            let Some(image) = linux_image(&depends) else {
                let missing = "a kernel, nor does it depend on one";
                return Err(GuestImageError::Contents { package: name, missing });
            };
            name = Architecture::of(&name).1.package(&image);
        }
        Err(GuestImageError::Contents { package: name, missing: "a kernel" })
    }

    /// Downloads by the host's package lists, or by lists of our own if those are missing or out of date, or for
    /// another architecture.
    fn download(&self, name: &str) -> Result<PathBuf, GuestImageError> {
        let place = self.directory.join(format!("archive-{name}"));
        make(&place)?;
        let host_lists = match Architecture::of(name).1.foreign() {
            None => self.apt_get(&place, &[], &["download", name])?,
            Some(_) => Outcome::default(),
        };
        if !host_lists.success {
            let own = self.own_lists(Architecture::of(name).1.foreign())?;
            let update = self.apt_get(&place, &own, &["update"])?;
            let download = self.apt_get(&place, &own, &["download", name])?;
            if !download.success {
                return Err(GuestImageError::Fetch {
                    package: name.to_owned(),
                    messages: last_lines(&format!(
                        "{}\n{}\n{}",
                        host_lists.messages, update.messages, download.messages
                    )),
                });
            }
        }
        let entries = fs::read_dir(&place).map_err(GuestImageError::file(&place))?;
        let mut paths = entries.flatten().map(|entry| entry.path());
        let archive = paths.find(|path| path.extension() == Some(OsStr::new("deb")));
        archive.ok_or_else(|| GuestImageError::Fetch {
            package: name.to_owned(),
            messages: "apt-get download left no file".to_owned(),
        })
    }

    /// Options of apt for package lists of our own: the host's, which may have other architectures, stay as they are.
    fn own_lists(&self, architecture: Option<&str>) -> Result<Vec<OsString>, GuestImageError> {
        let lists = self.directory.join(format!("lists-{}", architecture.unwrap_or("host")));
        make(&lists)?;
        let mut options = vec![setting("Dir::State::Lists=", &lists)];
        if let Some(architecture) = architecture {
            options.extend(
                [format!("APT::Architectures={architecture}"), format!("APT::Architecture={architecture}")]
                    .map(OsString::from),
            );
            // The host's list of installed packages is of its own architecture.
            options.push(OsString::from("Dir::State::Status=/dev/null"));
        }
        Ok(options)
    }

    fn apt_get(&self, place: &Path, options: &[OsString], arguments: &[&str]) -> Result<Outcome, GuestImageError> {
        let cache = self.directory.join("cache");
        make(&cache)?;
        let mut command = Command::new("apt-get");
        command.current_dir(place).args(["--quiet", "--option"]);
        command.arg(setting("Dir::Cache=", &cache));
        for option in options {
            command.arg("--option").arg(option);
        }
        // Root would hand downloads to a user that cannot write here. Dead networks end in an error soon.
        for option in
            ["APT::Sandbox::User=root", "Acquire::Retries=2", "Acquire::http::Timeout=30", "Acquire::https::Timeout=30"]
        {
            command.args(["--option", option]);
        }
        outcome("apt-get", "apt", command.args(arguments))
    }

    fn dpkg_deb(&self, package: &str, arguments: &[&OsStr]) -> Result<String, GuestImageError> {
        let outcome = outcome("dpkg-deb", "dpkg", Command::new("dpkg-deb").args(arguments))?;
        if outcome.success {
            Ok(outcome.output)
        } else {
            Err(GuestImageError::Unpack { package: package.to_owned(), messages: last_lines(&outcome.messages) })
        }
    }
}

/// How a program ended.
#[derive(Default)]
struct Outcome {
    success: bool,
    output: String,
    messages: String,
}

fn outcome(program: &'static str, package: &'static str, command: &mut Command) -> Result<Outcome, GuestImageError> {
    command.env("LC_ALL", "C").stdin(Stdio::null());
    let output = command.output().map_err(|error| GuestImageError::MissingTool { program, package, error })?;
    Ok(Outcome {
        success: output.status.success(),
        output: String::from_utf8_lossy(&output.stdout).into_owned(),
        messages: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

fn make(directory: &Path) -> Result<(), GuestImageError> {
    fs::create_dir_all(directory).map_err(GuestImageError::file(directory))
}

/// An option of apt: `NAME=PATH`.
fn setting(name: &str, path: &Path) -> OsString {
    let mut setting = OsString::from(name);
    setting.push(path);
    setting
}

fn last_lines(messages: &str) -> String {
    let lines: Vec<_> = messages.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(MESSAGE_LINES)..].join("\n")
}

/// The first Linux image in a package's `Depends` field, such as `linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2)`.
fn linux_image(depends: &str) -> Option<String> {
    depends
        .split([',', '|'])
        .filter_map(|dependency| dependency.split_whitespace().next())
        .find(|name| name.starts_with("linux-image-") && is_package_name(name))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metapackage_leads_to_an_image() {
        assert_eq!(
            linux_image("linux-base, linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2)\n").as_deref(),
            Some("linux-image-6.1.0-56-cloud-amd64")
        );
        assert_eq!(linux_image("libc6 (>= 2.36)"), None);
        assert_eq!(linux_image("linux-image-../../x"), None);
        assert_eq!(linux_image(""), None);
    }

    #[test]
    fn leftovers_of_interrupted_downloads_are_removed() {
        let cache = TempDir::new().unwrap();
        fs::create_dir(cache.path().join(".fetch-stale")).unwrap();
        fs::create_dir(cache.path().join("packages")).unwrap();
        let work = work_directory(cache.path()).unwrap();
        assert!(!cache.path().join(".fetch-stale").exists());
        assert!(cache.path().join("packages").exists() && work.path().exists());
    }
}
