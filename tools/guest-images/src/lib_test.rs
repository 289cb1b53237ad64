use super::*;

fn silent(_: &str) {}

#[test]
fn nothing_is_there_before_it_was_fetched() {
    let place = tempfile::TempDir::new().unwrap();
    let images = GuestImages::new(&place.path().join("none"), &silent);
    for reference in ["debian:linux-image-cloud-amd64", "builtin:checks"] {
        assert!(images.find(reference).unwrap().is_none());
    }
    assert!(images.find("builtin:no-such-thing").is_err());
    assert!(!place.path().join("none").exists());
}

#[test]
fn initial_ram_disk_is_made_from_the_cache() {
    let place = tempfile::TempDir::new().unwrap();
    let packages = place.path().join("packages");
    for package in [CHECKS_KERNEL, BUSYBOX] {
        fs::create_dir_all(packages.join(package)).unwrap();
    }
    fs::write(packages.join(BUSYBOX).join("busybox"), "busybox").unwrap();
    let images = GuestImages::new(place.path(), &silent);
    let error = images.find("builtin:checks").unwrap_err();
    assert!(error.to_string().contains("virtio_ring.ko"), "{error}");
    for module in checks::MODULES {
        let file = packages.join(CHECKS_KERNEL).join(format!("{module}.ko"));
        fs::write(file, "module").unwrap();
    }
    let path = images.find("builtin:checks").unwrap().unwrap();
    assert!(fs::read(path).unwrap().starts_with(b"070701"));
}

#[test]
fn a_package_that_debian_does_not_have_is_an_error_with_the_command() {
    use miette::Diagnostic as _;
    let place = tempfile::TempDir::new().unwrap();
    let images = GuestImages::new(place.path(), &silent);
    let error = images
        .provide("debian:bulkhead-no-such-package")
        .unwrap_err();
    if matches!(error, GuestImageError::MissingTool { .. }) {
        eprintln!("skipped: {error}");
        return;
    }
    let help = error.help().unwrap().to_string();
    assert!(
        help.contains("apt-get download bulkhead-no-such-package"),
        "{error}\n{help}"
    );
    let left: Vec<_> = fs::read_dir(place.path()).unwrap().flatten().collect();
    assert!(
        left.iter()
            .all(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
    );
}

/// Needs a network; a machine without one is told so.
#[test]
fn debian_kernel_and_initial_ram_disk() {
    let place = tempfile::TempDir::new().unwrap();
    let images = GuestImages::new(place.path(), &silent);
    let kernel = match images.provide("debian:linux-image-cloud-amd64") {
        Ok(kernel) => kernel,
        Err(error @ (GuestImageError::Fetch { .. } | GuestImageError::MissingTool { .. })) => {
            eprintln!("skipped: {error}");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    assert_eq!(fs::read(&kernel).unwrap()[0x202..0x206], *b"HdrS");
    let vmlinux = images
        .find("debian:linux-image-cloud-amd64#vmlinux")
        .unwrap()
        .unwrap();
    assert!(fs::read(vmlinux).unwrap().starts_with(b"\x7fELF"));
    let checks = images.provide("builtin:checks").unwrap();
    assert!(fs::metadata(checks).unwrap().len() < 4 << 20);
}
