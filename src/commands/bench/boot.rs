//! Booting what takes figures.

use std::{fs, path::Path, time::Duration};

use bulkhead_harness::{Backend, End, Input, Run};
use miette::{IntoDiagnostic, WrapErr, miette};

use crate::{
    programs::KERNEL,
    progress::Step,
    system::{self, System},
};

/// Lines of serial output that are shown of a run that failed.
const LAST_LINES: usize = 12;

/// Boots a manifest of the checkout on a processor of this model, and returns the serial output, of whatever length.
pub fn manifest(manifest: &str, model: &str, limit: Duration) -> miette::Result<String> {
    manifest_with(Path::new(KERNEL), manifest, model, limit)
}

/// The same with another kernel.
pub fn manifest_with(kernel: &Path, manifest: &str, model: &str, limit: Duration) -> miette::Result<String> {
    file(kernel, manifest, &Path::new(env!("CARGO_MANIFEST_DIR")).join(manifest), model, limit)
}

/// The same with a part of the manifest's text replaced.
pub fn changed_manifest(manifest: &str, [from, to]: [&str; 2], model: &str, limit: Duration) -> miette::Result<String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(manifest);
    let text = fs::read_to_string(&source).into_diagnostic().wrap_err_with(|| source.display().to_string())?;
    let name = source.file_name().unwrap_or_default();
    let path = system::directory(&source)?.join(name);
    fs::write(&path, text.replace(from, to)).into_diagnostic().wrap_err_with(|| path.display().to_string())?;
    file(Path::new(KERNEL), manifest, &path, model, limit)
}

/// The same with so many partitions more, which sleep most of the time: programs without console, and no load to speak of.
pub fn crowded_manifest(manifest: &str, more: usize, model: &str, limit: Duration) -> miette::Result<String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(manifest);
    let mut text = fs::read_to_string(&source).into_diagnostic().wrap_err_with(|| source.display().to_string())?;
    for number in 0..more {
        text.push_str(&format!(
            "\n[partition.crowd-{number}]\nprogram = \"hello\"\nconsole = false\nmemory = \"4 KiB\"\n"
        ));
    }
    let path = system::directory(&source)?.join("crowded.toml");
    fs::write(&path, text).into_diagnostic().wrap_err_with(|| path.display().to_string())?;
    file(Path::new(KERNEL), &format!("{manifest} with {more} partitions more"), &path, model, limit)
}

fn file(kernel: &Path, what: &str, path: &Path, model: &str, limit: Duration) -> miette::Result<String> {
    let system = System::compile(path)?.ok_or_else(|| miette!("{what} is wrong"))?;
    system.check_features(Backend::Bochs, Some(model))?;
    // Beside what `bulkhead run` makes of the same manifest.
    let directory = system::directory(path)?.join("bench");
    fs::create_dir_all(&directory).into_diagnostic().wrap_err_with(|| directory.display().to_string())?;
    let run = Run {
        image: directory.join("image.iso"),
        backend: Backend::Bochs,
        cpu_model: Some(model.to_owned()),
        cpus: system.cpus(None)?,
        memory_mib: system.memory_mib(None)?,
        disk: system.disk(None, &directory)?,
        devices: system.devices(&directory)?,
        iommu: system.iommu(),
        nodes: system.nodes(system.cpus(None)?, system.memory_mib(None)?),
        timeout: Some(limit),
        directory,
    };
    system.build_image_with(kernel, &run.image)?;
    image(what, &run)
}

/// Boots an image, and returns the serial output, of whatever length. A machine that does not switch itself off is shown.
pub fn image(what: &str, run: &Run) -> miette::Result<String> {
    let step = Step::begin(format!("running {what}"));
    let report = run.execute(Input::None, &mut |_| {})?;
    step.done();
    let serial = String::from_utf8_lossy(&report.serial).into_owned();
    if report.end != End::PoweredOff {
        eprintln!("bulkhead: {what}: {:?} after {} s", report.end, report.duration.as_secs());
        let lines: Vec<&str> = serial.lines().collect();
        for line in lines.iter().skip(lines.len().saturating_sub(LAST_LINES)) {
            eprintln!("  {line}");
        }
    }
    Ok(serial)
}
