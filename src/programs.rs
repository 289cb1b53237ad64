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
    let stripped = Command::new("objcopy").arg("--strip-all").arg(linked).arg(&image).status();
    match stripped.into_diagnostic().wrap_err("objcopy")?.success() {
        true => Ok(image),
        false => Err(miette!("objcopy could not make {}", image.display())),
    }
}

/// A program by the name that manifests use, with its bootable file, and the one that has symbols and debug information.
macro_rules! program {
    ($name:literal, $variable:literal) => {
        ($name, env!($variable), env!(concat!($variable, "_LINKED")))
    };
}

/// The native programs.
const PROGRAMS: [(&str, &str, &str); 20] = [
    program!("ahci", "BULKHEAD_BLOCK_AHCI"),
    program!("bench", "BULKHEAD_BENCH"),
    program!("block", "BULKHEAD_BLOCK"),
    program!("bus", "BULKHEAD_BUS"),
    program!("console", "BULKHEAD_CONSOLE"),
    program!("cyclic", "BULKHEAD_CYCLIC"),
    program!("drivecheck", "BULKHEAD_DRIVECHECK"),
    program!("hello", "BULKHEAD_HELLO"),
    program!("hostile", "BULKHEAD_HOSTILE"),
    program!("init", "BULKHEAD_INIT"),
    program!("neighbour", "BULKHEAD_NEIGHBOUR"),
    program!("netcheck", "BULKHEAD_NETCHECK"),
    program!("nvme", "BULKHEAD_BLOCK_NVME"),
    program!("peers", "BULKHEAD_PEERS"),
    program!("probe", "BULKHEAD_PROBE"),
    program!("rogue", "BULKHEAD_ROGUE"),
    program!("switch", "BULKHEAD_SWITCH"),
    program!("trace", "BULKHEAD_TRACE"),
    program!("virtio-blk", "BULKHEAD_BLOCK_VIRTIO"),
    program!("vmm", "BULKHEAD_VMM"),
];

/// The bootable files of the native programs, by the names that manifests use.
pub fn programs() -> BTreeMap<String, PathBuf> {
    PROGRAMS.iter().map(|(name, bootable, _)| ((*name).to_owned(), PathBuf::from(bootable))).collect()
}

/// The file with debug information of a native program, or of `kernel`.
pub fn linked(name: &str) -> Option<&'static Path> {
    if name == "kernel" {
        return Some(Path::new(env!("BULKHEAD_KERNEL_LINKED")));
    }
    PROGRAMS.iter().find(|(program, ..)| *program == name).map(|(.., linked)| Path::new(*linked))
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
