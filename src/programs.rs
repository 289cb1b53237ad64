//! The kernel and the native programs that `build.rs` built.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// The kernel's image.
pub const KERNEL: &str = env!("BULKHEAD_KERNEL");

/// The native programs, by the names that manifests use.
pub fn programs() -> BTreeMap<String, PathBuf> {
    [
        ("bench", env!("BULKHEAD_BENCH")),
        ("block", env!("BULKHEAD_BLOCK")),
        ("console", env!("BULKHEAD_CONSOLE")),
        ("hello", env!("BULKHEAD_HELLO")),
        ("init", env!("BULKHEAD_INIT")),
        ("vmm", env!("BULKHEAD_VMM")),
    ]
    .map(|(name, path)| (name.to_owned(), PathBuf::from(path)))
    .into()
}

/// Finds the file of a `debian:` or `builtin:` reference of a manifest.
pub fn find_guest_image(reference: &str) -> Result<Option<PathBuf>, String> {
    match reference.split_once(':') {
        Some(("builtin", "guests")) => Ok(Some(PathBuf::from(env!("BULKHEAD_GUESTS")))),
        Some(("debian", _)) => Ok(None),
        _ => Err("there is no such guest image".to_owned()),
    }
}

/// The cargo target directory, under which everything that this command makes goes.
pub fn target_directory() -> &'static Path {
    let images = Path::new(env!("BULKHEAD_IMAGES"));
    images.parent().unwrap_or(images)
}
