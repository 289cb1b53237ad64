//! What can go wrong, each with what mends it.

use std::{
    io,
    path::{Path, PathBuf},
};

use miette::Diagnostic;
use thiserror::Error;

/// Why a guest's file is not to be had.
#[derive(Debug, Error, Diagnostic)]
pub enum GuestImageError {
    /// Nothing has this name.
    #[error("there is no guest image `{0}`")]
    #[diagnostic(help(
        "write \"debian:PACKAGE\", \"debian:PACKAGE#vmlinux\", \"builtin:checks\", or \"builtin:checks#PACKAGE\""
    ))]
    UnknownReference(String),
    /// A program of the host could not be started.
    #[error("cannot run {program}: {error}")]
    #[diagnostic(help("as root: apt-get install --no-install-recommends {package}"))]
    MissingTool {
        /// The program.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
        /// The system's answer.
        #[source]
        error: io::Error,
    },
    /// The package manager did not deliver.
    #[error("cannot fetch Debian's {package}:\n{messages}")]
    #[diagnostic(help(
        "a network and Debian's package sources are needed; try: apt-get update && apt-get download {package}\n\
         a package of 32 bits is written with its architecture, as in linux-image-686:i386"
    ))]
    Fetch {
        /// The package.
        package: String,
        /// The end of what it printed.
        messages: String,
    },
    /// A package could not be unpacked.
    #[error("cannot unpack Debian's {package}:\n{messages}")]
    Unpack {
        /// The package.
        package: String,
        /// The end of what `dpkg-deb` printed.
        messages: String,
    },
    /// A package has not what is expected of it.
    #[error("Debian's {package} does not contain {missing}")]
    #[diagnostic(help("name a package with a kernel, such as linux-image-cloud-amd64"))]
    Contents {
        /// The package.
        package: String,
        /// What was looked for.
        missing: &'static str,
    },
    /// A kernel is not what it should be.
    #[error("{}: {reason}", path.display())]
    Kernel {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
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
}

impl GuestImageError {
    /// An error about a file.
    pub(crate) fn file(path: &Path) -> impl Fn(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::File { path: path.clone(), error }
    }
}
