//! Why a cell's directory could not be made.

use std::path::PathBuf;

/// Errors of `escape cell init`.
#[derive(Debug, thiserror::Error)]
pub enum CellDirectoryError {
    /// There is something in the directory that is no cell's.
    #[error("{}: not empty, and no cell's directory (it has no file `authority`): nothing was written", directory.display())]
    NotACell {
        /// The directory.
        directory: PathBuf,
    },
    /// The authority is another cell's.
    #[error("{}: holds the authority of cell {found}, the file is about cell {wanted}: nothing was written", directory.display())]
    OtherCell {
        /// The directory.
        directory: PathBuf,
        /// Whose authority is there.
        found: String,
        /// Whose is wanted.
        wanted: String,
    },
    /// A process's identity is not from this authority.
    #[error("{}: {cause}: nothing was written (take the file away to get a new identity)", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// Keys and certificates could not be made.
    #[error("identities: {0}")]
    Pki(#[from] escape_link::pki::PkiError),
    /// A configuration that cannot be printed.
    #[error("configuration of {process}: {source}")]
    Print {
        /// Whose.
        process: String,
        /// Why.
        source: toml::ser::Error,
    },
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
}
