//! What can go wrong, each with what mends it.

use std::{io, path::PathBuf};

use miette::Diagnostic;
use thiserror::Error;

/// Why no image was built.
#[derive(Debug, Error, Diagnostic)]
pub enum ImageError {
    /// A program that builds images is not installed.
    #[error("cannot find {}", missing.iter().map(|tool| tool.file).collect::<Vec<_>>().join(", "))]
    #[diagnostic(help("{}", crate::tool::install_line(missing)))]
    MissingTools {
        /// Every tool that is missing.
        missing: Vec<crate::Tool>,
    },
    /// A program that builds images failed.
    #[error("{program} failed:\n{messages}")]
    ToolFailed {
        /// Its name.
        program: &'static str,
        /// What it printed on its error stream.
        messages: String,
    },
    /// A file could not be read or written.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        error: io::Error,
    },
    /// The kernel's list of modules is bounded.
    #[error("{count} modules, and the kernel takes at most {}", bulkhead_abi::MAX_BOOT_MODULES)]
    TooManyModules {
        /// Modules asked for, the plan among them.
        count: usize,
    },
    /// A module's name is its identity on the target and stands in GRUB's configuration.
    #[error("`{name}` cannot be the name of a module")]
    #[diagnostic(help("1 to 47 of: letters, digits, `.`, `_`, `-`, `/`"))]
    ModuleName {
        /// The name.
        name: String,
    },
    /// Two modules have the same name.
    #[error("two modules have the name `{name}`")]
    DuplicateModule {
        /// The name.
        name: String,
    },
    /// A kernel's command line stands in GRUB's configuration as it is.
    #[error("GRUB would interpret the command line `{text}`")]
    #[diagnostic(help("use letters, digits, spaces, and `,.:=_/-+@`"))]
    CommandLine {
        /// The command line.
        text: String,
    },
}
