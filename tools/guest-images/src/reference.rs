//! References of manifests to guests' files, as a type.

use std::str::FromStr;

use crate::GuestImageError;

/// A file that a manifest names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// The Linux kernel of a Debian package.
    Debian {
        /// The package's name; a metapackage stands for the package that it depends on.
        package: String,
        /// What is wanted of it.
        form: KernelForm,
    },
    /// The initial RAM disk of [`crate::checks`].
    Checks,
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
        match text.split_once(':').ok_or_else(unknown)? {
            ("builtin", "checks") => Ok(Self::Checks),
            ("debian", name) => {
                let (package, form) = match name.split_once('#') {
                    None => (name, KernelForm::BzImage),
                    Some((package, "vmlinux")) => (package, KernelForm::Vmlinux),
                    Some(_) => return Err(unknown()),
                };
                if !is_package_name(package) {
                    return Err(unknown());
                }
                Ok(Self::Debian { package: package.to_owned(), form })
            }
            _ => Err(unknown()),
        }
    }
}

/// Names of packages (Debian Policy, 5.6.1). They become arguments and names of directories.
pub(crate) fn is_package_name(name: &str) -> bool {
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
        assert_eq!("builtin:checks".parse::<Reference>().ok(), Some(Reference::Checks));
    }

    #[test]
    fn names_that_would_leave_the_cache_or_become_options_are_refused() {
        for text in [
            "",
            "checks",
            "builtin:",
            "builtin:other",
            "debian:",
            "debian:a",
            "debian:../x",
            "debian:-oX",
            "debian:a/b",
            "debian:ab#",
            "debian:ab#elf",
            "debian:é-x",
            "file:x",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }
}
