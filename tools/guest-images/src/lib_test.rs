use super::*;

fn silent(_: &str) {}

#[test]
fn nothing_is_there_before_it_was_fetched() {
    let place = tempfile::TempDir::new().unwrap();
    let images = GuestImages::new(&place.path().join("none"), Path::new("none"), &silent);
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
        fs::write(packages.join(package).join("selection"), package::selection()).unwrap();
    }
    fs::write(packages.join(BUSYBOX).join("busybox"), "busybox").unwrap();
    let workload = place.path().join("workload");
    fs::write(&workload, "workload").unwrap();
    let images = GuestImages::new(place.path(), &workload, &silent);
    let error = images.find("builtin:checks").unwrap_err();
    assert!(error.to_string().contains("virtio_ring.ko"), "{error}");
    for module in checks::DISK_MODULES.into_iter().chain(checks::NETWORK_MODULES).chain(checks::CHANNEL_MODULES) {
        let file = packages.join(CHECKS_KERNEL).join(format!("{module}.ko"));
        fs::write(file, "module").unwrap();
    }
    let path = images.find("builtin:checks").unwrap().unwrap();
    assert!(fs::read(path).unwrap().starts_with(b"070701"));
    assert!(images.find("builtin:checks#linux-image-other").unwrap().is_none());
}

#[test]
fn kernels_of_32_bits_get_programs_of_32_bits() {
    let place = tempfile::TempDir::new().unwrap();
    let packages = place.path().join("packages");
    for package in ["linux-image-686:i386", "busybox-static:i386"] {
        fs::create_dir_all(packages.join(package)).unwrap();
        fs::write(packages.join(package).join("selection"), package::selection()).unwrap();
    }
    for module in checks::DISK_MODULES.into_iter().chain(checks::NETWORK_MODULES).chain(checks::CHANNEL_MODULES) {
        fs::write(packages.join("linux-image-686:i386").join(format!("{module}.ko")), "module").unwrap();
    }
    fs::write(packages.join("busybox-static:i386/busybox"), "busybox for i386").unwrap();
    // The built program is one of 64 bits, and not asked for.
    let images = GuestImages::new(place.path(), Path::new("none"), &silent);
    let path = images.find("builtin:checks#linux-image-686:i386").unwrap().unwrap();
    let archive = fs::read(path).unwrap();
    let contains = |text: &[u8]| archive.windows(text.len()).any(|window| window == text);
    assert!(contains(b"busybox for i386") && contains(checks::WORKLOAD_SCRIPT.as_bytes()));
    assert!(contains(&first_program::elf(Architecture::I386)));
    assert!(images.find("builtin:checks").unwrap().is_none());
}
