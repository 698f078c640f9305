//! What can be wrong with the store's file.

use escape_engine::store::Conflict;
use std::io;

/// The store could not be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file could not be opened.
    #[error("{file}: {source}{}", advice(.source))]
    File {
        /// Which.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// Another process has it open.
    #[error("{file}: another process has this store open (is another orchestrator running?)")]
    InUse {
        /// Which.
        file: String,
    },
    /// The file is not a store, or it is damaged. It is left as it is.
    #[error(
        "{file}: not a store, or damaged: {detail} (restore it from a copy, or start a new cluster with a new file)"
    )]
    Corrupt {
        /// Which.
        file: String,
        /// What was found.
        detail: String,
    },
    /// Another version of this program wrote it.
    #[error("{file}: format {found}, this program reads format {wanted}")]
    Format {
        /// Which.
        file: String,
        /// Found.
        found: u32,
        /// Readable.
        wanted: u32,
    },
    /// It belongs to another cluster.
    #[error("{file}: the store of cluster {}, this is cluster {}", hex(.found), hex(.wanted))]
    OtherCluster {
        /// Which.
        file: String,
        /// Its cluster.
        found: [u8; 16],
        /// The one wanted.
        wanted: [u8; 16],
    },
    /// The database failed in another way.
    #[error("{file}: {detail}")]
    Database {
        /// Which.
        file: String,
        /// What it says.
        detail: String,
    },
}

/// A transaction was not made, or it is not known whether it was.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// A compare failed; nothing was written.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// The file failed. The transaction may or may not be in it: try the same one again.
    #[error("the store is not available: {0}")]
    Unavailable(String),
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => " (does the directory exist?)",
        io::ErrorKind::PermissionDenied => " (who runs the orchestrator, who owns the file?)",
        io::ErrorKind::StorageFull => " (make room on that file system)",
        io::ErrorKind::ReadOnlyFilesystem => " (the store needs a file system that can be written)",
        _ => "",
    }
}

fn hex(cluster: &[u8; 16]) -> String {
    cluster.iter().map(|byte| format!("{byte:02x}")).collect()
}
