//! The kernel and the native programs that `build.rs` built.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use bulkhead_guest_images::{GuestImageError, GuestImages};
use miette::{Diagnostic as _, IntoDiagnostic, WrapErr, miette};

/// The kernel's image.
pub const KERNEL: &str = env!("BULKHEAD_KERNEL");

/// Builds a kernel whose shadow paging is a plain virtual TLB, for comparisons, and returns its image.
pub fn build_plain_kernel() -> miette::Result<PathBuf> {
    let directory = Path::new(env!("BULKHEAD_IMAGES")).join("plain-shadow");
    let target = env!("BULKHEAD_KERNEL_TARGET");
    let mut cargo = Command::new("cargo");
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    cargo.args(["build", "--quiet", "--profile", "native", "--target", target]);
    cargo.args(["--package", "bulkhead-kernel", "--features", "plain-shadow"]);
    cargo.env("CARGO_TARGET_DIR", &directory);
    cargo.env("CARGO_ENCODED_RUSTFLAGS", env!("BULKHEAD_KERNEL_FLAGS").replace(' ', "\u{1f}"));
    let output = cargo.output().into_diagnostic().wrap_err("cargo")?;
    if !output.status.success() {
        return Err(miette!("the kernel could not be built:\n{}", String::from_utf8_lossy(&output.stderr)));
    }
    let image = directory.join("bulkhead-kernel");
    let linked = directory.join(target).join("native").join("bulkhead-kernel");
    let stripped = Command::new("objcopy").arg("--strip-debug").arg(linked).arg(&image).status();
    match stripped.into_diagnostic().wrap_err("objcopy")?.success() {
        true => Ok(image),
        false => Err(miette!("objcopy could not make {}", image.display())),
    }
}

/// The native programs, by the names that manifests use.
pub fn programs() -> BTreeMap<String, PathBuf> {
    [
        ("ahci", env!("BULKHEAD_BLOCK_AHCI")),
        ("bench", env!("BULKHEAD_BENCH")),
        ("block", env!("BULKHEAD_BLOCK")),
        ("bus", env!("BULKHEAD_BUS")),
        ("console", env!("BULKHEAD_CONSOLE")),
        ("drivecheck", env!("BULKHEAD_DRIVECHECK")),
        ("hello", env!("BULKHEAD_HELLO")),
        ("init", env!("BULKHEAD_INIT")),
        ("netcheck", env!("BULKHEAD_NETCHECK")),
        ("nvme", env!("BULKHEAD_BLOCK_NVME")),
        ("peers", env!("BULKHEAD_PEERS")),
        ("probe", env!("BULKHEAD_PROBE")),
        ("rogue", env!("BULKHEAD_ROGUE")),
        ("switch", env!("BULKHEAD_SWITCH")),
        ("virtio-blk", env!("BULKHEAD_BLOCK_VIRTIO")),
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
