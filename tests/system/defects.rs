//! What must stop a system, stops it and says why: damaged and missing modules, an init that crashes, and a defect of the
//! kernel itself. Each image is that of `native.toml` with one thing changed.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use bulkhead_harness::{Backend, Input, Run};
use bulkhead_image::Module;
use object::{Object, ObjectSection, ObjectSymbol};

use crate::machine::{Outcome, has, path, place, turn};

/// The kernel stops instead of powering off, so each of these runs lasts as long as this.
const LIMIT: Duration = Duration::from_secs(12);
/// An instruction that no processor has.
const UNDEFINED: [u8; 2] = [0x0f, 0x0b];

/// The files of an image.
struct Files {
    directory: PathBuf,
    kernel: PathBuf,
    plan: Vec<u8>,
    modules: BTreeMap<String, PathBuf>,
}

impl Files {
    fn of_native_programs() -> Self {
        let programs: BTreeMap<String, PathBuf> =
            [("console", env!("BULKHEAD_CONSOLE")), ("hello", env!("BULKHEAD_HELLO"))]
                .map(|(name, path)| (name.to_owned(), PathBuf::from(path)))
                .into();
        let options = bulkhead_manifest::Options {
            programs: Some(&programs),
            image_resolver: &|_| Ok(None),
            initrd_arguments: "",
            statistics: false,
            trace: None,
            end_after_us: None,
        };
        let manifest = path("partitions/native.toml");
        let compiled = bulkhead_manifest::compile(&manifest, &options)
            .unwrap_or_else(|errors| panic!("{}", bulkhead_manifest::render_plain(&errors)));
        let mut modules: BTreeMap<_, _> = compiled.modules.into_iter().collect();
        modules.insert("init".to_owned(), PathBuf::from(env!("BULKHEAD_INIT")));
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("defects");
        fs::create_dir_all(&directory).expect("the directory is writable");
        Self { directory, kernel: PathBuf::from(env!("BULKHEAD_KERNEL")), plan: compiled.plan, modules }
    }

    /// Replaces a module by a changed copy.
    fn change(&mut self, module: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let file = self.modules.get_mut(module).expect("there is such a module");
        *file = changed(file, &self.directory, change);
    }

    /// Boots it. Call it with the turn taken.
    fn run(&self, cpus: u32) -> Outcome {
        let modules: Vec<Module> =
            self.modules.iter().map(|(name, path)| Module::new(name, path).expect("the module is there")).collect();
        let run = Run {
            image: self.directory.join("image.iso"),
            backend: Backend::Qemu,
            cpu_model: None,
            cpus,
            memory_mib: 512,
            disk: None,
            devices: Vec::new(),
            iommu: false,
            nodes: Vec::new(),
            timeout: Some(LIMIT),
            directory: self.directory.clone(),
        };
        bulkhead_image::build_image(&self.kernel, &self.plan, &modules, &run.image).expect("the image is built");
        let report = run.execute(Input::None, &mut |_| {}).expect("the emulator starts");
        Outcome {
            status: None,
            serial: String::from_utf8_lossy(&report.serial).into_owned(),
            terminal: String::new(),
            messages: format!("{:?}", report.end),
        }
    }
}

/// A copy of a file with something changed in it.
fn changed(file: &Path, directory: &Path, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
    let mut bytes = fs::read(file).expect("the file is there");
    change(&mut bytes);
    let copy = directory.join(file.file_name().expect("files have names"));
    fs::write(&copy, bytes).expect("the directory is writable");
    copy
}

/// Where a function is whose name contains this, in a file with symbols.
fn function(linked: &str, name: &str) -> u64 {
    let bytes = fs::read(linked).expect("the file is there");
    let file = object::File::parse(&*bytes).expect("it is an ELF file");
    let is_it = |symbol: &object::Symbol<'_, '_>| symbol.name().is_ok_and(|other| other.contains(name));
    file.symbols().find(is_it).expect("there is such a function").address()
}

/// What `bulkhead symbolize` makes of a log.
fn symbolized(serial: &str, directory: &Path) -> String {
    let log = directory.join("symbolize.log");
    fs::write(&log, serial).expect("the directory is writable");
    let output =
        Command::new(env!("CARGO_BIN_EXE_bulkhead")).arg("symbolize").arg(log).output().expect("the command starts");
    assert!(output.status.success());
    String::from_utf8(output.stdout).expect("it is text")
}

/// Writes an undefined instruction to this address of a program.
fn break_code(image: &mut [u8], address: u64) {
    let file = object::File::parse(&*image).expect("it is an ELF file");
    let offset = file
        .sections()
        .filter(|section| (section.address()..section.address() + section.size()).contains(&address))
        .find_map(|section| Some(section.file_range()?.0 + address - section.address()))
        .expect("a section holds it") as usize;
    image[offset..offset + UNDEFINED.len()].copy_from_slice(&UNDEFINED);
}

#[test]
fn damaged_module_is_not_accepted() {
    if !has(Backend::Qemu) {
        return;
    }
    let _turn = turn();
    let mut files = Files::of_native_programs();
    files.change("program/hello", |bytes| bytes[0x1000] ^= 1);
    files
        .run(1)
        .expect_in_order(&["accept the module program/hello", "BLAKE2b-256"])
        .expect_in_order(&["bulkhead: end: failed: "])
        .expect_absent("hello| ");
}

#[test]
fn missing_module_is_named() {
    if !has(Backend::Qemu) {
        return;
    }
    let _turn = turn();
    let mut files = Files::of_native_programs();
    files.modules.remove("program/hello").expect("it was there");
    files
        .run(1)
        .expect_in_order(&["map the module program/hello"])
        .expect_in_order(&["bulkhead: end: failed: "])
        .expect_absent("hello| ");
}

#[test]
fn damaged_plan_is_not_carried_out() {
    if !has(Backend::Qemu) {
        return;
    }
    let _turn = turn();
    let mut files = Files::of_native_programs();
    let middle = files.plan.len() / 2;
    files.plan.truncate(middle);
    files.run(1).expect_in_order(&["read the plan"]).expect_in_order(&["bulkhead: end: failed: "]);
}

#[test]
fn init_that_is_no_program_is_refused() {
    if !has(Backend::Qemu) {
        return;
    }
    let _turn = turn();
    let mut files = Files::of_native_programs();
    files.change("init", |bytes| bytes[0] = 0);
    files.run(1).expect_in_order(&["bulkhead: end: failed: module \"init\" is no static 64-bit ELF program"]);
}

#[test]
fn init_that_crashes_stops_the_machine_with_its_registers() {
    if !has(Backend::Qemu) {
        return;
    }
    let _turn = turn();
    let mut files = Files::of_native_programs();
    files.change("init", |bytes| {
        let entry = object::File::parse(&**bytes).expect("it is an ELF file").entry();
        break_code(bytes, entry);
    });
    let outcome = files.run(2).expect_in_order(&[
        "bulkhead: init starts",
        "bulkhead: init stopped: exception 6 error 0x0 rip init@0x400000",
        "  rax 0x",
        "  r12 0x",
        "bulkhead: end: failed: init stopped",
    ]);
    let log = symbolized(&outcome.serial, &files.directory);
    assert!(log.contains("rip init@0x400000 _start cr2"), "{log}");
}

/// An instruction in the kernel's `wait` is changed to one that does not exist.
#[test]
fn defect_of_the_kernel_stops_every_cpu_with_registers_and_a_backtrace() {
    if !has(Backend::Qemu) {
        return;
    }
    let _turn = turn();
    let mut files = Files::of_native_programs();
    let address = function(env!("BULKHEAD_KERNEL_LINKED"), "7syscall3ipc4wait");
    files.kernel = changed(&files.kernel, &files.directory, |bytes| break_code(bytes, address));
    let outcome = files.run(2).expect_in_order(&[
        "bulkhead: KERNEL PANIC: exception 6 error 0x0",
        &format!("  rip kernel@{address:#x}\r\n"),
        "rflags 0x",
        "  rax 0x",
        "  r12 0x",
        "backtrace:",
        "  kernel@0xffffffff",
        "bulkhead: kernel stopped",
    ]);
    assert!(outcome.serial.trim_end().ends_with("bulkhead: kernel stopped"), "{outcome}");
    let log = symbolized(&outcome.serial, &files.directory);
    let wait = place("kernel/src/syscall/ipc.rs", "fn wait(");
    assert!(log.contains(&format!("  rip kernel@{address:#x} bulkhead_kernel::syscall::ipc::wait {wait}")), "{log}");
    assert!(log.contains(" syscall_entry"), "{log}");
}
