//! Builds the kernel and every native program, checks their machine code, and hands their paths to the host command.
//!
//! The programs run without an operating system, so each is built by a nested cargo with flags of its own, in a target
//! directory of its own (`target/images/*`): the outer cargo holds the lock of the usual one. Where the toolchain has
//! `x86_64-unknown-none` that target is used; elsewhere the host target gives the same code, since fat link-time
//! optimisation generates the precompiled `core` again under our flags.

#[path = "build/code.rs"]
mod code;
#[path = "build/instructions.rs"]
mod instructions;
#[path = "build/panics.rs"]
mod panics;

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use instructions::FloatingPoint;

/// Native programs, by package; the host command finds them by the part after `bulkhead-`. So are built the programs that
/// run in guests.
const PROGRAMS: [&str; 22] = [
    "bulkhead-init",
    "bulkhead-vmm",
    "bulkhead-hello",
    "bulkhead-peers",
    "bulkhead-cyclic",
    "bulkhead-neighbour",
    "bulkhead-bench",
    "bulkhead-console",
    "bulkhead-block",
    "bulkhead-switch",
    "bulkhead-block-ahci",
    "bulkhead-block-nvme",
    "bulkhead-block-virtio",
    "bulkhead-bus",
    "bulkhead-probe",
    "bulkhead-drivecheck",
    "bulkhead-rogue",
    "bulkhead-hostile",
    "bulkhead-netcheck",
    "bulkhead-trace",
    "bulkhead-guests",
    "bulkhead-workload",
];

/// No instruction may touch vector or x87 state: an exit of a guest switches none.
const NO_VECTORS: &str = "-Ctarget-feature=-mmx,-sse,-sse2,-sse3,-ssse3,-sse4.1,-sse4.2,-avx,-avx2,+soft-float";

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    for input in [
        "build.rs",
        "build",
        "Cargo.toml",
        "Cargo.lock",
        "kernel",
        "partitions",
        "services",
        "tools/guest-images/workload",
    ] {
        println!("cargo:rerun-if-changed={input}");
    }
    let target = Target::detect()?;
    let images = images_directory()?;

    println!("cargo:rustc-env=BULKHEAD_IMAGES={}", images.display());
    // For `bulkhead bench`, which builds a kernel with another engine.
    println!("cargo:rustc-env=BULKHEAD_KERNEL_TARGET={}", target.triple);
    println!("cargo:rustc-env=BULKHEAD_KERNEL_FLAGS={}", target.flags("kernel").join(" "));
    for kernel in target.build("kernel", &["bulkhead-kernel"], &images)? {
        let functions = code::functions(&kernel.linked)?;
        instructions::check(&kernel.linked, &functions, FloatingPoint::StateManagementOnly)?;
        panics::check(&kernel.linked, &functions)?;
        kernel.announce();
    }
    for program in target.build("native", &PROGRAMS, &images)? {
        let functions = code::functions(&program.linked)?;
        instructions::check(&program.linked, &functions, FloatingPoint::Forbidden)?;
        program.announce();
    }
    target.firmware(&images)?.announce();
    Ok(())
}

/// A linked program: `linked` has symbols and debug information, `bootable` has not (GRUB reads slowly).
struct Image {
    package: &'static str,
    linked: PathBuf,
    bootable: PathBuf,
}

impl Image {
    /// Tells the host command the image's paths, in environment variables such as `BULKHEAD_KERNEL` and `BULKHEAD_KERNEL_LINKED`.
    fn announce(&self) {
        let variable = self.package.replace('-', "_").to_uppercase();
        println!("cargo:rustc-env={variable}={}", self.bootable.display());
        println!("cargo:rustc-env={variable}_LINKED={}", self.linked.display());
    }
}

/// What the programs are compiled for.
struct Target {
    triple: &'static str,
    /// The host target links with the C compiler, `x86_64-unknown-none` with the linker itself.
    links_with_compiler: bool,
}

impl Target {
    /// Chooses `x86_64-unknown-none` if this toolchain has its `core`.
    fn detect() -> Result<Self, String> {
        let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let output = Command::new(&rustc)
            .args(["--print", "target-libdir", "--target", "x86_64-unknown-none"])
            .output()
            .map_err(|error| format!("cannot run {}: {error}", rustc.display()))?;
        let directory = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        let has_core = fs::read_dir(directory).is_ok_and(|entries| {
            entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
        });
        Ok(if has_core {
            Self { triple: "x86_64-unknown-none", links_with_compiler: false }
        } else {
            Self { triple: "x86_64-unknown-linux-gnu", links_with_compiler: true }
        })
    }

    /// The compiler flags of one kind of program, `kernel` or `native`.
    fn flags(&self, kind: &str) -> Vec<String> {
        let mut flags = vec!["-Crelocation-model=static".to_owned()];
        if kind == "kernel" {
            flags.extend(["-Ccode-model=kernel".to_owned(), "-Cno-redzone=yes".to_owned()]);
        } else {
            flags.push("-Ccode-model=small".to_owned());
        }
        let linker: &[&str] = &["--build-id=none", "-znorelro", "-zmax-page-size=4096", "-znoexecstack"];
        if self.links_with_compiler {
            flags.push(NO_VECTORS.to_owned());
            let driver = ["-nostartfiles", "-nostdlib", "-static", "-no-pie"];
            flags.extend(driver.iter().map(|argument| format!("-Clink-arg={argument}")));
            flags.extend(linker.iter().map(|argument| format!("-Clink-arg=-Wl,{argument}")));
        } else {
            flags.extend(linker.iter().map(|argument| format!("-Clink-arg={argument}")));
        }
        flags
    }

    /// Builds `packages` with the flags of `kind` under `images/kind`.
    fn build(&self, kind: &str, packages: &[&'static str], images: &Path) -> Result<Vec<Image>, String> {
        let directory = images.join(kind);
        let flags = self.flags(kind).join("\u{1f}");
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(["build", "--quiet", "--profile", "native", "--target", self.triple]);
        for package in packages {
            command.args(["--package", package]);
        }
        for (name, _) in env::vars_os().filter(|(name, _)| is_of_outer_build(name)) {
            command.env_remove(name);
        }
        command.env("CARGO_TARGET_DIR", &directory).env("CARGO_ENCODED_RUSTFLAGS", &flags);
        let output = command.output().map_err(|error| format!("cannot run cargo: {error}"))?;
        if !output.status.success() {
            let messages = String::from_utf8_lossy(&output.stderr);
            return Err(format!("building {} failed:\n{}", packages.join(", "), without_flag_warnings(&messages)));
        }

        packages
            .iter()
            .map(|package| {
                let image = self.image(&directory, package);
                objcopy("--strip-all", &image)?;
                Ok(image)
            })
            .collect()
    }

    fn image(&self, directory: &Path, binary: &'static str) -> Image {
        let linked = directory.join(self.triple).join("native").join(binary);
        Image { package: binary, linked, bootable: directory.join(binary) }
    }

    /// The firmware, which was built with the guests. A machine starts with its bytes alone, without a file format.
    fn firmware(&self, images: &Path) -> Result<Image, String> {
        let image = self.image(&images.join("native"), "bulkhead-firmware");
        objcopy("--output-target=binary", &image)?;
        Ok(image)
    }
}

/// Whether an environment variable describes the build that runs this script, and would mislead the nested one.
fn is_of_outer_build(name: &OsString) -> bool {
    let name = name.to_string_lossy();
    let user_setting = ["CARGO_HOME", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTRIES_", "CARGO_MAKEFLAGS"];
    if user_setting.iter().any(|prefix| name.starts_with(prefix)) {
        return false;
    }
    ["CARGO", "RUSTC", "RUSTFLAGS", "RUSTDOC", "CLIPPY", "OUT_DIR", "TARGET", "HOST", "OPT_LEVEL", "PROFILE", "DEBUG"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

/// Removes the compiler's paragraphs about the target features that are switched off on purpose.
fn without_flag_warnings(messages: &str) -> String {
    messages
        .split("\n\n")
        .filter(|paragraph| {
            !(paragraph.trim_start().starts_with("warning:")
                && (paragraph.contains("target feature") || paragraph.contains("-Ctarget-feature")))
        })
        .collect::<Vec<_>>()
        .join("\n\n")
}

/// Makes the bootable file of an image.
fn objcopy(how: &str, Image { linked: from, bootable: to, .. }: &Image) -> Result<(), String> {
    let status = Command::new("objcopy").arg(how).arg(from).arg(to).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(format!("objcopy could not copy {}", from.display())),
        Err(error) => Err(format!("cannot run objcopy ({error}): apt-get install binutils")),
    }
}

/// `target/images`, wherever the outer build's target directory is.
fn images_directory() -> Result<PathBuf, String> {
    let output = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set: run through cargo")?);
    // OUT_DIR is <target directory>/[<triple>/]<profile>/build/<package>-<hash>/out.
    let profile = output.ancestors().nth(3).ok_or("OUT_DIR is too short")?;
    let mut directory = profile.parent().ok_or("OUT_DIR is too short")?;
    if env::var("TARGET").is_ok_and(|triple| directory.ends_with(triple)) {
        directory = directory.parent().ok_or("OUT_DIR is too short")?;
    }
    Ok(directory.join("images"))
}
