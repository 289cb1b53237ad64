//! Every backend that this host has, on a machine that needs nothing but a boot sector.

use std::{
    fs::{self, File},
    path::Path,
    process::Command,
    time::Duration,
};

use bulkhead_harness::{Backend, End, HarnessError, Input, Reply, Report, Run, Verdict};
use bulkhead_image::Tool;
use tempfile::TempDir;

/// 16-bit code at 0:7c00. It prints the text behind it, then reads a key: `t` makes a triple fault, `h` halts for ever,
/// any other powers off.
const BOOT_SECTOR: [u8; 101] = [
    0xfc, // cld
    0x31, 0xc0, // xor ax, ax
    0x8e, 0xd8, // mov ds, ax
    0xba, 0xfb, 0x03, // mov dx, 3fbh (line control)
    0xb0, 0x83, // mov al, 83h
    0xee, // out dx, al
    0xba, 0xf8, 0x03, // mov dx, 3f8h (divisor)
    0xb0, 0x01, // mov al, 1
    0xee, // out dx, al
    0xba, 0xfb, 0x03, // mov dx, 3fbh
    0xb0, 0x03, // mov al, 3
    0xee, // out dx, al
    0xbe, 0x65, 0x7c, // mov si, text
    // character:
    0xac, // lodsb
    0x88, 0xc4, // mov ah, al
    0xba, 0xfd, 0x03, // mov dx, 3fdh (line status)
    // wait:
    0xec, // in al, dx
    0xa8, 0x40, // test al, 40h (transmitter empty)
    0x74, 0xfb, // jz wait
    0x08, 0xe4, // or ah, ah
    0x74, 0x08, // jz key
    0x88, 0xe0, // mov al, ah
    0xba, 0xf8, 0x03, // mov dx, 3f8h (data)
    0xee, // out dx, al
    0xeb, 0xe9, // jmp character
    // key:
    0xec, // in al, dx
    0xa8, 0x01, // test al, 1 (data ready)
    0x74, 0xfb, // jz key
    0xba, 0xf8, 0x03, // mov dx, 3f8h
    0xec, // in al, dx
    0x3c, 0x74, // cmp al, 't'
    0x74, 0x13, // je triple
    0x3c, 0x68, // cmp al, 'h'
    0x74, 0x0b, // je hang
    0xb8, 0x00, 0x20, // mov ax, 2000h (enter S5)
    0xba, 0x04, 0xb0, // mov dx, 0b004h (PM1a of Bochs' BIOS)
    0xef, // out dx, ax
    0xba, 0x04, 0x06, // mov dx, 604h (PM1a of QEMU's)
    0xef, // out dx, ax
    // hang:
    0xfa, // cli
    0xf4, // hlt
    0xeb, 0xfc, // jmp hang
    // triple:
    0x0f, 0x01, 0x1e, 0x5f, 0x7c, // lidt [zero]
    0x0f, 0x01, 0xe0, // smsw ax
    0x0c, 0x01, // or al, 1
    0x0f, 0x01, 0xf0, // lmsw ax
    0xcc, // int3
    // zero:
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
];

/// The backends to test: emulators that are installed. Without any, nothing can be shown here.
fn backends() -> Vec<Backend> {
    let image_tools = [Tool { file: "xorriso", package: "xorriso" }];
    if image_tools.iter().any(|tool| tool.find().is_none()) {
        eprintln!("skipped: xorriso is not installed");
        return Vec::new();
    }
    let (there, missing): (Vec<_>, Vec<_>) =
        [Backend::Bochs, Backend::Qemu].into_iter().partition(|backend| backend.missing_tools().is_empty());
    for backend in missing {
        eprintln!("skipped: {backend} is not installed");
    }
    there
}

fn run(backend: Backend, directory: &Path, text: &str) -> Run {
    let mut sector = BOOT_SECTOR.to_vec();
    sector.extend_from_slice(text.as_bytes());
    sector.resize(2048, 0);
    let loader = directory.join("loader");
    fs::write(&loader, sector).unwrap();
    let image = directory.join("image.iso");
    let status = Command::new("xorriso")
        .args(["-as", "mkisofs", "-quiet", "-b", "loader", "-no-emul-boot", "-boot-load-size", "4", "-o"])
        .arg(&image)
        .arg("-graft-points")
        .arg(format!("loader={}", loader.display()))
        .output()
        .unwrap();
    assert!(status.status.success(), "{status:?}");
    Run {
        image,
        backend,
        cpu_model: None,
        cpus: 2,
        memory_mib: 64,
        disk: None,
        devices: Vec::new(),
        iommu: false,
        nodes: Vec::new(),
        timeout: Some(Duration::from_secs(60)),
        directory: directory.join("run"),
    }
}

fn press(key: &str) -> Input {
    Input::Replies(vec![Reply { cue: "ok".to_owned(), text: key.to_owned() }])
}

fn execute(run: &Run, input: Input) -> Report {
    run.execute(input, &mut |_| {}).unwrap()
}

#[test]
fn status_and_power_off_pass() {
    for backend in backends() {
        let directory = TempDir::new().unwrap();
        let mut run = run(backend, directory.path(), "hello\r\nbulkhead: end: ok\r\n");
        let disk = directory.path().join("disk.img");
        File::create(&disk).unwrap().set_len(1 << 20).unwrap();
        run.disk = Some(disk);
        let mut streamed = Vec::new();
        let report = run.execute(press("p"), &mut |bytes| streamed.extend_from_slice(bytes)).unwrap();
        assert_eq!(report.end, End::PoweredOff, "{backend}");
        assert_eq!(report.verdict(), Verdict::Passed, "{backend}");
        assert_eq!(streamed, report.serial);
        assert_eq!(report.serial, b"hello\r\nbulkhead: end: ok\r\n");
        assert_eq!(report.ticks.is_some(), backend == Backend::Bochs);
    }
}

#[test]
fn triple_fault_is_told_from_a_power_off() {
    for backend in backends() {
        let directory = TempDir::new().unwrap();
        let report = execute(&run(backend, directory.path(), "bulkhead: end: ok\r\n"), press("t"));
        assert_eq!(report.end, End::TripleFault, "{backend}");
    }
}

#[test]
fn time_limit_ends_a_machine_that_hangs() {
    for backend in backends() {
        let directory = TempDir::new().unwrap();
        let mut run = run(backend, directory.path(), "bulkhead: end: ok\r\n");
        run.timeout = Some(Duration::from_secs(6));
        let report = execute(&run, press("h"));
        assert_eq!(report.verdict(), Verdict::TimedOut, "{backend}");
        assert!(report.duration < Duration::from_secs(12), "{:?}", report.duration);
    }
}

#[test]
fn setup_errors_are_told_before_the_start() {
    for backend in backends() {
        let directory = TempDir::new().unwrap();
        let disk = directory.path().join("disk.img");
        let locked = File::create(&disk).unwrap();
        locked.lock().unwrap();
        let mut run = run(backend, directory.path(), "");
        run.disk = Some(disk);
        let error = run.execute(Input::None, &mut |_| {}).unwrap_err();
        assert!(matches!(error, HarnessError::DiskInUse(_)), "{error:?}");

        run.disk = None;
        run.cpu_model = Some("no_such_model".to_owned());
        match run.execute(Input::None, &mut |_| {}) {
            Err(HarnessError::UnknownCpuModel { known, .. }) => {
                assert!(known.iter().any(|model| model == "corei7_skylake_x"));
            }
            Ok(Report { end: End::EmulatorFailed(message), .. }) => assert!(message.contains("no_such_model")),
            other => panic!("{other:?}"),
        }
    }
}
