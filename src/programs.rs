//! The kernel and the native programs that `build.rs` built.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use bulkhead_guest_images::{GuestImageError, GuestImages};
use miette::Diagnostic as _;

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

/// Finds the file of a `debian:` or `builtin:` reference of a manifest, if it is there; never uses the network.
pub fn find_guest_image(reference: &str) -> Result<Option<PathBuf>, String> {
    guest_image(reference, |images| images.find(reference))
}

/// Finds the file of a `debian:` or `builtin:` reference of a manifest, and fetches it if it is not there.
pub fn provide_guest_image(reference: &str) -> Result<Option<PathBuf>, String> {
    guest_image(reference, |images| images.provide(reference).map(Some))
}

fn guest_image(
    reference: &str,
    of_package: impl Fn(&GuestImages<'_>) -> Result<Option<PathBuf>, GuestImageError>,
) -> Result<Option<PathBuf>, String> {
    match reference {
        "builtin:guests" => return Ok(Some(PathBuf::from(env!("BULKHEAD_GUESTS")))),
        "builtin:firmware" => return Ok(Some(PathBuf::from(env!("BULKHEAD_FIRMWARE")))),
        _ => {}
    }
    let say = |what: &str| eprintln!("bulkhead: {what}");
    let workload = Path::new(env!("BULKHEAD_WORKLOAD"));
    let images = GuestImages::new(&target_directory().join("guest-images"), workload, &say);
    of_package(&images).map_err(|error| match error.help() {
        Some(help) => format!("{error}\n{help}"),
        None => error.to_string(),
    })
}

/// The cargo target directory, under which everything that this command makes goes.
pub fn target_directory() -> &'static Path {
    let images = Path::new(env!("BULKHEAD_IMAGES"));
    images.parent().unwrap_or(images)
}
