//! Modules: files that the boot loader puts into memory beside the kernel.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use bulkhead_abi::MAX_BOOT_MODULES;

use crate::ImageError;

/// Longest name of a module: the kernel's field has 48 bytes, NUL-padded.
const MAX_NAME: usize = 47;

/// A file that the boot loader loads, under the name by which init finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    name: String,
    path: PathBuf,
}

impl Module {
    /// A module with the given name and host file.
    ///
    /// # Errors
    /// [`ImageError::ModuleName`] if the name is empty, too long, or has a character that GRUB would interpret;
    /// [`ImageError::File`] if the file cannot be opened.
    pub fn new(name: &str, path: &Path) -> Result<Self, ImageError> {
        let allowed = |character: char| character.is_ascii_alphanumeric() || "._-/".contains(character);
        if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(allowed) {
            return Err(ImageError::ModuleName { name: name.to_owned() });
        }
        std::fs::File::open(path).map_err(|error| ImageError::File { path: path.to_owned(), error })?;
        Ok(Self { name: name.to_owned(), path: path.to_owned() })
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The host file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Checks that modules can be told apart and are not too many for the kernel.
pub(crate) fn check_set(modules: &[Module]) -> Result<(), ImageError> {
    if modules.len() > MAX_BOOT_MODULES {
        return Err(ImageError::TooManyModules { count: modules.len() });
    }
    let mut names = HashSet::new();
    match modules.iter().find(|module| !names.insert(module.name())) {
        Some(module) => Err(ImageError::DuplicateModule { name: module.name().to_owned() }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn this_file(name: &str) -> Result<Module, ImageError> {
        Module::new(name, Path::new("/dev/null"))
    }

    #[test]
    fn names_that_grub_would_interpret_are_refused() {
        for name in ["", "a b", "a;b", "a\nb", "$a", "é", &"x".repeat(48)] {
            assert!(matches!(this_file(name), Err(ImageError::ModuleName { .. })), "{name:?}");
        }
        assert!(this_file(&"x".repeat(47)).is_ok());
        assert!(this_file("linux/initrd-6.1_a").is_ok());
    }

    #[test]
    fn missing_file_is_named() {
        let error = Module::new("plan", Path::new("/nonexistent/plan")).unwrap_err();
        assert!(error.to_string().starts_with("/nonexistent/plan: "));
    }

    #[test]
    fn duplicates_and_too_many_are_refused() {
        let one = this_file("a").unwrap();
        let twice = [one.clone(), one];
        assert!(matches!(check_set(&twice), Err(ImageError::DuplicateModule { name }) if name == "a"));
        let many: Vec<_> = (0..=MAX_BOOT_MODULES).map(|index| this_file(&index.to_string()).unwrap()).collect();
        assert!(matches!(check_set(&many), Err(ImageError::TooManyModules { .. })));
        assert!(check_set(&many[1..]).is_ok());
    }
}
