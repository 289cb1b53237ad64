//! Boots whole systems on the emulators that this host has.

use std::{path::Path, process::Command};

use bulkhead_harness::Backend;

/// Runs a manifest and returns exit status and serial output.
fn boot(manifest: &str, backend: Backend, arguments: &[&str]) -> (Option<i32>, String) {
    let serial = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{backend}-serial.log"));
    let status = Command::new(env!("CARGO_BIN_EXE_bulkhead"))
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
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .status()
        .expect("the command starts");
    let bytes = std::fs::read(&serial).unwrap_or_default();
    (status.code(), String::from_utf8_lossy(&bytes).into_owned())
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
        let (status, serial) = boot("partitions/native.toml", backend, &[]);
        assert_eq!(status, Some(0), "{backend}:\n{serial}");
        assert!(serial.contains("hello| "), "{backend}:\n{serial}");
    }
}
