//! Errors of making and reading images.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

/// Why an image could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A program of Debian could not be run.
    #[error("{program}: {source}; it comes with Debian's package {package}")]
    Program {
        /// Its name.
        program: &'static str,
        /// The package that has it.
        package: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A program of Debian failed.
    #[error("{command}: {status}: {said}")]
    Failed {
        /// What was run.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it said.
        said: String,
    },
    /// No package is called so, or it names no other one.
    #[error("package {package} has no file for this machine: is the name right, and was `apt-get update` run?")]
    NoPackage {
        /// Its name.
        package: String,
    },
    /// A package has not what it should.
    #[error("package {package} has no {what}")]
    Missing {
        /// Its name.
        package: String,
        /// What was looked for.
        what: String,
    },
    /// A module is packed in a way that the guest's `insmod` does not read.
    #[error("{}: this module is compressed, which is not supported", path.display())]
    PackedModule {
        /// The file.
        path: PathBuf,
    },
    /// A file.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The archive could not be written or read.
    #[error("the initial file system: {0}")]
    Archive(io::Error),
}

impl ImageError {
    /// For `map_err` at a file.
    pub(crate) fn file(path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { path: path.to_owned(), source }
    }
}
