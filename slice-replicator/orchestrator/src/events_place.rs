//! Where a process writes its events, or finds its store.

use crate::error::ProcessError;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// A file: by path, or one that the process inherited as a descriptor (a pipe, or a file without a name).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum OutputPlace {
    /// A path; made with mode 0600 if it is missing.
    Path(PathBuf),
    /// A descriptor.
    Fd(u32),
}

impl OutputPlace {
    /// For messages.
    pub fn name(&self) -> String {
        match self {
            Self::Path(path) => path.display().to_string(),
            Self::Fd(fd) => format!("descriptor {fd}"),
        }
    }

    /// Opens it to append lines.
    pub(crate) fn open_to_append(&self) -> Result<File, ProcessError> {
        let mut options = OpenOptions::new();
        options.append(true);
        self.open(options)
    }

    /// Opens it to read and write.
    pub(crate) fn open_to_read_and_write(&self) -> Result<File, ProcessError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        self.open(options)
    }

    fn open(&self, mut options: OpenOptions) -> Result<File, ProcessError> {
        let opened = match self {
            Self::Path(path) => options.create(true).mode(0o600).open(path),
            // A new opening of the same file or pipe: the inherited descriptor itself stays untouched.
            Self::Fd(fd) => options.open(format!("/proc/self/fd/{fd}")),
        };
        opened.map_err(|source| ProcessError::Output { what: self.name(), source })
    }
}
