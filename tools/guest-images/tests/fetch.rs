//! Fetches from Debian; on a machine that cannot, what needs it is skipped. Packages stay under the target directory.

use bulkhead_guest_images::{GuestImageError, GuestImages};
use miette::Diagnostic as _;
use std::{fs, path::Path};

fn images() -> GuestImages<'static> {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest-images");
    // Any file does for the program that the checks run.
    let workload = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
    GuestImages::new(&place, workload, &|what| eprintln!("{what}"))
}

/// The file, or `None` on a machine that cannot fetch it.
fn fetched(reference: &str) -> Option<Vec<u8>> {
    match images().provide(reference) {
        Ok(path) => Some(fs::read(path).unwrap()),
        Err(error @ (GuestImageError::Fetch { .. } | GuestImageError::MissingTool { .. })) => {
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn kernel_of_a_metapackage_in_both_forms() {
    let Some(kernel) = fetched("debian:linux-image-cloud-amd64") else {
        return;
    };
    assert_eq!(kernel[0x202..0x206], *b"HdrS");
    let vmlinux = images().find("debian:linux-image-cloud-amd64#vmlinux");
    let vmlinux = fs::read(vmlinux.unwrap().unwrap()).unwrap();
    assert!(vmlinux.starts_with(b"\x7fELF") && vmlinux.len() > kernel.len());
}

/// A kernel of 32 bits, and an initial RAM disk with programs that it can run.
#[test]
fn kernel_of_the_other_architecture() {
    let Some(kernel) = fetched("debian:linux-image-686:i386") else {
        return;
    };
    assert_eq!(kernel[0x202..0x206], *b"HdrS");
    let vmlinux = images().find("debian:linux-image-686:i386#vmlinux").unwrap().unwrap();
    assert!(fs::read(vmlinux).unwrap().starts_with(b"\x7fELF\x01"));
    let Some(archive) = fetched("builtin:checks#linux-image-686:i386") else {
        return;
    };
    // The module of a file system that other kernels have built in is a large part of it.
    assert!(archive.starts_with(b"070701") && archive.len() < 4 << 20);
    assert!(!archive.windows(5).any(|bytes| bytes == b"\x7fELF\x02"), "a program of 64 bits");
}

#[test]
fn other_kernels() {
    if let Some(memtest) = fetched("debian:memtest86+") {
        assert_eq!(memtest[0x202..0x206], *b"HdrS");
    }
    if let Some(mach) = fetched("debian:gnumach-image-1.8-486:i386") {
        assert!(mach.starts_with(b"\x7fELF\x01"), "a 32-bit ELF file, unpacked");
    }
}

#[test]
fn initial_ram_disk_is_small() {
    if let Some(archive) = fetched("builtin:checks") {
        assert!(archive.starts_with(b"070701") && archive.len() < 3 << 20);
    }
}

#[test]
fn package_that_debian_does_not_have_is_an_error_with_the_command() {
    let error = images().provide("debian:bulkhead-no-such-package").unwrap_err();
    if matches!(error, GuestImageError::MissingTool { .. }) {
        eprintln!("skipped: {error}");
        return;
    }
    let help = error.help().unwrap().to_string();
    assert!(help.contains("apt-get download bulkhead-no-such-package"), "{error}\n{help}");
}
