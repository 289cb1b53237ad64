//! Boots whole systems on the emulators that this host has.

use std::{
    path::Path,
    process::Command,
    sync::{Mutex, PoisonError},
};

use bulkhead_harness::Backend;

/// Runs of one manifest share its disk and image, so one is made at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Runs a manifest and returns exit status and serial output.
fn boot(manifest: &str, backend: Backend) -> (Option<i32>, String) {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let serial = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{backend}-serial.log"));
    // Absent the first time.
    let _ = std::fs::remove_file(&serial);
    let output = Command::new(env!("CARGO_BIN_EXE_bulkhead"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args([
            "run",
            manifest,
            "--timeout",
            "120",
            "--backend",
            &backend.to_string(),
            "--serial",
        ])
        .arg(&serial)
        .stdin(std::process::Stdio::null())
        .output()
        .expect("the command starts");
    let bytes = std::fs::read(&serial).unwrap_or_default();
    (
        output.status.code(),
        String::from_utf8_lossy(&bytes).into_owned(),
    )
}

fn is_installed(backend: Backend) -> bool {
    let installed = backend.missing_tools().is_empty();
    if !installed {
        eprintln!("skipped: {backend} is not installed");
    }
    installed
}

#[test]
fn native_programs_run_on_every_emulator() {
    for backend in [Backend::Qemu, Backend::Bochs] {
        if !is_installed(backend) {
            continue;
        }
        let (status, serial) = boot("partitions/native.toml", backend);
        assert_eq!(status, Some(0), "{backend}:\n{serial}");
        assert!(serial.contains("hello| "), "{backend}:\n{serial}");
    }
}

#[test]
fn guests_run_identically_each_time_under_bochs() {
    if !is_installed(Backend::Bochs) {
        return;
    }
    let (status, first) = boot("partitions/guests.toml", Backend::Bochs);
    assert_eq!(status, Some(0), "{first}");
    assert!(
        first.contains("guest: long mode") && first.contains("guest: real mode"),
        "{first}"
    );
    let (status, second) = boot("partitions/guests.toml", Backend::Bochs);
    assert_eq!(status, Some(0), "{second}");
    assert_eq!(first, second);
}

#[test]
fn guests_are_refused_on_a_processor_without_vmx() {
    if !is_installed(Backend::Qemu) {
        return;
    }
    let (status, serial) = boot("partitions/guests.toml", Backend::Qemu);
    assert_eq!((status, serial.as_str()), (Some(2), ""));
}
