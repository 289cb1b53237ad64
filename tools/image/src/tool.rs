//! The host programs and files that building an image takes.

use std::path::{Path, PathBuf};

use crate::ImageError;

/// Where Debian's `grub-pc-bin` puts GRUB for a PC BIOS.
pub(crate) const GRUB_DIRECTORY: &str = "/usr/lib/grub/i386-pc";

/// A program or file that must be there, and the Debian package that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tool {
    /// A program's name, or a file's absolute path.
    pub file: &'static str,
    /// The Debian package.
    pub package: &'static str,
}

/// Everything that [`crate::build_image`] uses.
pub const TOOLS: [Tool; 3] = [
    Tool { file: "grub-mkimage", package: "grub-common" },
    Tool { file: "/usr/lib/grub/i386-pc/cdboot.img", package: "grub-pc-bin" },
    Tool { file: "xorriso", package: "xorriso" },
];

impl Tool {
    /// Where the tool is: an absolute path as it stands, a name along `PATH`.
    pub fn find(&self) -> Option<PathBuf> {
        let file = Path::new(self.file);
        if file.is_absolute() {
            return file.exists().then(|| file.to_owned());
        }
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).map(|directory| directory.join(file)).find(|candidate| candidate.is_file())
    }
}

/// The command that installs the packages of `missing`.
pub fn install_line<'a>(missing: impl IntoIterator<Item = &'a Tool>) -> String {
    let mut packages: Vec<_> = missing.into_iter().map(|tool| tool.package).collect();
    packages.sort_unstable();
    packages.dedup();
    format!("apt-get install --no-install-recommends {}", packages.join(" "))
}

/// Refuses with one error that names every missing tool.
pub(crate) fn check_tools() -> Result<(), ImageError> {
    let missing: Vec<_> = TOOLS.into_iter().filter(|tool| tool.find().is_none()).collect();
    if missing.is_empty() { Ok(()) } else { Err(ImageError::MissingTools { missing }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_and_files_are_found() {
        assert!(Tool { file: "sh", package: "dash" }.find().is_some());
        assert!(Tool { file: "/dev/null", package: "none" }.find().is_some());
        assert!(Tool { file: "no-such-program-here", package: "none" }.find().is_none());
    }

    #[test]
    fn install_line_names_every_package() {
        let line = install_line(&TOOLS);
        assert_eq!(line, "apt-get install --no-install-recommends grub-common grub-pc-bin xorriso");
    }
}
