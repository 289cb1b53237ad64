//! Why a run could not be made; how a run that was made ended is in the report.

use std::{io, path::PathBuf};

use bulkhead_image::Tool;
use miette::Diagnostic;
use thiserror::Error;

use crate::Backend;

/// Why a run could not be started.
#[derive(Debug, Error, Diagnostic)]
pub enum HarnessError {
    /// The emulator, or a file of its, is not installed.
    #[error("cannot find {}, which {backend} takes", missing.iter().map(|tool| tool.file).collect::<Vec<_>>().join(", "))]
    #[diagnostic(help("{}", bulkhead_image::install_line(missing)))]
    MissingTools {
        /// What was asked to run.
        backend: Backend,
        /// Every tool that is missing.
        missing: Vec<Tool>,
    },
    /// The emulator does not know the processor model.
    #[error("bochs has no processor model `{model}`")]
    #[diagnostic(help("one of: {}", known.join(", ")))]
    UnknownCpuModel {
        /// What was asked for.
        model: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The backend needs VMX in KVM's guests, and this host has none to give.
    #[error("kvm cannot run guests here: {}", .0.explanation())]
    #[diagnostic(help("use --backend bochs"))]
    NoNestedVmx(
        /// What stands in the way.
        crate::NestedVmx,
    ),
    /// The emulator has no such device, or not so many.
    #[error("bochs cannot have {what}")]
    #[diagnostic(help("use --backend qemu"))]
    NoSuchDevice {
        /// What was asked for.
        what: String,
    },
    /// Another run uses the disk image.
    #[error("{}: another run uses this disk", .0.display())]
    #[diagnostic(help("wait for it to end, or name another file with --disk"))]
    DiskInUse(
        /// The disk image.
        PathBuf,
    ),
    /// A path holds a character that the emulator's configuration cannot express.
    #[error("{}: the emulator's configuration cannot express this path", .0.display())]
    #[diagnostic(help("use a path without commas, quotes and line breaks"))]
    Path(
        /// The path.
        PathBuf,
    ),
    /// A file or socket could not be used.
    #[error("{}: {error}", path.display())]
    File {
        /// The file, or what stands for it.
        path: PathBuf,
        /// The system's answer.
        #[source]
        error: io::Error,
    },
    /// The emulator could not be started or awaited.
    #[error("{program}: {error}")]
    Process {
        /// Its name.
        program: &'static str,
        /// The system's answer.
        #[source]
        error: io::Error,
    },
}

impl HarnessError {
    /// An error about a file.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        |error| Self::File { path, error }
    }
}
