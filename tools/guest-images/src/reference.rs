//! References of manifests to guests' files, as a type.

use std::str::FromStr;

use crate::{GuestImageError, architecture::Architecture};

/// The package whose kernel the checks are for, unless the reference names another.
pub(crate) const CHECKS_KERNEL: &str = "linux-image-cloud-amd64";

/// A file that a manifest names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// The Linux kernel of a Debian package.
    Debian {
        /// The package's name, with `:i386` for one of that architecture; a metapackage stands for the package that it
        /// depends on.
        package: String,
        /// What is wanted of it.
        form: KernelForm,
    },
    /// The initial RAM disk of [`crate::checks`].
    Checks {
        /// The package of the kernel that it goes with: modules fit one kernel only.
        kernel: String,
    },
    /// The initial RAM disk of [`crate::reads`], for the kernel of [`CHECKS_KERNEL`].
    Reads,
    /// The initial RAM disk of [`crate::stream`], for the kernel that it names.
    Stream,
}

/// The two forms of a Linux kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelForm {
    /// The compressed one that packages contain.
    BzImage,
    /// The ELF file inside.
    Vmlinux,
}

impl FromStr for Reference {
    type Err = GuestImageError;

    fn from_str(text: &str) -> Result<Self, GuestImageError> {
        let unknown = || GuestImageError::UnknownReference(text.to_owned());
        let package = |name: &str| if is_package_name(name) { Ok(name.to_owned()) } else { Err(unknown()) };
        let (kind, name) = text.split_once(':').ok_or_else(unknown)?;
        match (kind, name.split_once('#').map_or((name, None), |(name, part)| (name, Some(part)))) {
            ("builtin", ("reads", None)) => Ok(Self::Reads),
            ("builtin", ("stream", None)) => Ok(Self::Stream),
            ("builtin", ("checks", kernel)) => Ok(Self::Checks { kernel: package(kernel.unwrap_or(CHECKS_KERNEL))? }),
            ("debian", (name, None)) => Ok(Self::Debian { package: package(name)?, form: KernelForm::BzImage }),
            ("debian", (name, Some("vmlinux"))) => {
                Ok(Self::Debian { package: package(name)?, form: KernelForm::Vmlinux })
            }
            _ => Err(unknown()),
        }
    }
}

/// Names of packages (Debian Policy, 5.6.1), perhaps with an architecture. They become arguments and names of
/// directories.
pub(crate) fn is_package_name(name: &str) -> bool {
    let (name, _) = Architecture::of(name);
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.len() >= 2
        && name.starts_with(|first: char| first.is_ascii() && letter(first as u8))
        && name.bytes().all(|byte| letter(byte) || b"+-.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read() {
        let debian = |form| Reference::Debian { package: "linux-image-cloud-amd64".to_owned(), form };
        assert_eq!("debian:linux-image-cloud-amd64".parse::<Reference>().ok(), Some(debian(KernelForm::BzImage)));
        assert_eq!(
            "debian:linux-image-cloud-amd64#vmlinux".parse::<Reference>().ok(),
            Some(debian(KernelForm::Vmlinux))
        );
        assert_eq!("builtin:reads".parse::<Reference>().ok(), Some(Reference::Reads));
        assert_eq!("builtin:stream".parse::<Reference>().ok(), Some(Reference::Stream));
        let checks = |kernel: &str| Some(Reference::Checks { kernel: kernel.to_owned() });
        assert_eq!("builtin:checks".parse::<Reference>().ok(), checks("linux-image-cloud-amd64"));
        assert_eq!("builtin:checks#linux-image-rt-amd64".parse::<Reference>().ok(), checks("linux-image-rt-amd64"));
        assert_eq!("builtin:checks#linux-image-686:i386".parse::<Reference>().ok(), checks("linux-image-686:i386"));
    }

    #[test]
    fn names_that_would_leave_the_cache_or_become_options_are_refused() {
        for text in [
            "",
            "checks",
            "builtin:",
            "builtin:other",
            "builtin:checks#",
            "builtin:reads#linux-image-rt-amd64",
            "builtin:stream#linux-image-rt-amd64",
            "builtin:checks#../x",
            "debian:",
            "debian:a",
            "debian:../x",
            "debian:-oX",
            "debian:a/b",
            "debian:ab#",
            "debian:ab#elf",
            "debian:é-x",
            "debian:ab:armhf",
            "debian:ab:",
            "debian::i386",
            "debian:ab:i386:i386",
            "file:x",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }
}
