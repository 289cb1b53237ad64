//! The manifest compiler: TOML to checked model to compiled plan.
//!
//! Owns: the manifest's language, the checks of what it says, and the choices that the plan fixes (signal bits, virtual
//! addresses, capability slots). Must never: be needed on the target, or stop at the first error.
//!
//! [`check`] needs nothing but the manifest; [`compile()`] also needs the built programs and the guests' files.
#![forbid(unsafe_code)]

mod checks;
mod command;
mod compile;
mod diagnostic;
mod files;
mod flow;
mod keys;
mod levels;
mod machine;
mod model;
mod pci;
pub mod picture;
mod read;

pub use command::{check_command, render, render_plain};
pub use compile::{Compiled, EmulatedDevice, EmulatedNode, Needs};
pub use diagnostic::{Diagnostic, Place};
pub use flow::Edge;
pub use pci::Model;
pub use picture::Picture;

use checks::Context;
use diagnostic::Reporter;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Programs that a partition can name when only a check is asked for.
pub const PROGRAMS: [&str; 19] = [
    "ahci",
    "bench",
    "block",
    "bus",
    "console",
    "cyclic",
    "drivecheck",
    "hello",
    "hostile",
    "neighbour",
    "netcheck",
    "nvme",
    "peers",
    "probe",
    "rogue",
    "switch",
    "trace",
    "virtio-blk",
    "vmm",
];

/// Finds the file of a `package:` or `builtin:` reference: `Ok(None)` if it is known but not there yet (not fetched, not
/// built), `Err` with the reason if there can be no such file.
pub type ImageResolver<'a> = &'a dyn Fn(&str) -> Result<Option<PathBuf>, String>;

/// What the compiler is told about the world outside the manifest.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// Native programs by name, as ELF executables; `None` for a check without them.
    pub programs: Option<&'a BTreeMap<String, PathBuf>>,
    /// Finds guests' kernels and initial RAM disks that are not plain files.
    pub image_resolver: ImageResolver<'a>,
    /// Appended to the kernel command line of each guest that has an initial RAM disk, for its scripts; may be empty.
    pub initrd_arguments: &'a str,
    /// The monitors of all guests count exits, as with `statistics = true`.
    pub statistics: bool,
    /// The system is traced.
    pub trace: Option<Tracing>,
    /// The system ends after so many microseconds, whatever the manifest says.
    pub end_after_us: Option<u64>,
}

/// How a system is traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracing {
    /// Memory of each CPU's ring, in bytes, if the manifest does not say how much; the usual amount if nobody does.
    pub memory: Option<u64>,
    /// Records are only counted, whatever the manifest says.
    pub totals: bool,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self {
            programs: None,
            image_resolver: &|_| Ok(None),
            initrd_arguments: "",
            statistics: false,
            trace: None,
            end_after_us: None,
        }
    }
}

/// Checks a manifest, and returns the warnings. Files of guests are checked in depth where they are there already.
///
/// # Errors
/// Everything that is wrong, and the warnings, in the order of the file.
pub fn check(path: &Path, options: &Options<'_>) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
    examine(path, options, false).map(|(_, _, reporter)| reporter.into_diagnostics())
}

/// Checks a manifest, and returns what a picture of it shows.
///
/// # Errors
/// Those of [`check`].
pub fn picture(path: &Path, options: &Options<'_>) -> Result<Picture, Vec<Diagnostic>> {
    let (manifest, _, reporter) = examine(path, options, false)?;
    Ok(Picture::new(&manifest, reporter.into_diagnostics()))
}

/// Checks a manifest, and returns every way for information from one partition or guest to another that it implies.
///
/// # Errors
/// As [`check`].
pub fn flows(path: &Path, options: &Options<'_>) -> Result<Vec<Edge>, Vec<Diagnostic>> {
    examine(path, options, false).map(|(manifest, _, _)| flow::FlowGraph::new(&manifest).into_edges())
}

/// Checks a manifest and compiles it.
///
/// # Errors
/// Everything that is wrong, in the order of the file; also files that are not there.
pub fn compile(path: &Path, options: &Options<'_>) -> Result<Compiled, Vec<Diagnostic>> {
    let (manifest, files, reporter) = examine(path, options, true)?;
    match compile::compile(&manifest, &files, &reporter) {
        Some(compiled) => Ok(Compiled { warnings: reporter.into_diagnostics(), ..compiled }),
        None => Err(reporter.into_diagnostics()),
    }
}

/// The language as a JSON schema (draft 2020-12), as `docs/manifest.schema.json` has it.
pub fn schema() -> String {
    format!("{:#}\n", keys::schema())
}

/// The language's tables: the name of each, and its keys as a Markdown table, as `docs/manifest.md` has them.
pub fn key_tables() -> Vec<(&'static str, String)> {
    keys::reference()
}

fn examine(
    path: &Path,
    options: &Options<'_>,
    all_files: bool,
) -> Result<(model::Manifest, files::Files, Reporter), Vec<Diagnostic>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => return Err(vec![Diagnostic::unreadable(path, &error)]),
    };
    let reporter = Reporter::new(path, Arc::from(text.as_str()));
    let mut manifest = read::manifest(&text, &reporter, path);
    manifest.choose_checks();
    manifest.add_bus();
    manifest.add_trace(options.trace);
    manifest.append_initrd_arguments(options.initrd_arguments);
    manifest.guests.iter_mut().for_each(|guest| guest.statistics |= options.statistics);
    if let Some(time) = options.end_after_us {
        manifest.system.end.value = model::EndCondition::AfterMicroseconds(time);
    }
    let files = files::Files::find(&manifest, path, options, all_files, &reporter);
    checks::all(&Context { manifest: &manifest, files: &files, reporter: &reporter });
    if reporter.has_errors() { Err(reporter.into_diagnostics()) } else { Ok((manifest, files, reporter)) }
}
