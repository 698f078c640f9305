//! The directory of a cell: its authority, and one directory per process with everything that this process needs.
//!
//! ```text
//! DIR/authority                       whoever holds it can be anyone in the cell: it stays where it was made
//! DIR/orchestrator/orchestrator.toml  configuration and keys of one process: goes to its host as it is
//! DIR/edge/edge.toml
//! DIR/node-1/node.toml
//! DIR/operator/operator.toml          for people who ask: `escape status`
//! ```
//! Identities are made once. Configurations follow the replication file: [`init`] may be called again with a changed one.

mod error;
mod identity;
mod private_files;
mod process;
mod process_directory;
mod report;

pub use error::CellDirectoryError;
pub use process_directory::State;
pub use report::{InitReport, ProcessReport};

use crate::config::ReplicationFile;
use escape_link::ClusterAuthority;
use process::Process;
use process_directory::ProcessDirectory;
use std::path::Path;

/// Name of the authority's file.
const AUTHORITY: &str = "authority";

/// Makes the directory of the cell, or adds to it what the file has and it has not. Everything is looked at before
/// anything is written.
///
/// # Errors
/// What is in `directory` belongs to another cell or to nobody known, or it cannot be written.
pub fn init(file: &ReplicationFile, directory: &Path) -> Result<InitReport, CellDirectoryError> {
    let authority_file = directory.join(AUTHORITY);
    let known = existing_authority(file, directory, &authority_file)?;
    let authority = match &known {
        Some(authority) => authority.clone(),
        None => ClusterAuthority::new(&file.cell.uuid)?,
    };
    let processes = Process::all(file)
        .map(|process| ProcessDirectory::plan(directory, file, &authority, process))
        .collect::<Result<Vec<_>, _>>()?;
    if known.is_none() {
        private_files::make_directory(directory)?;
        private_files::write(&authority_file, &authority.to_toml()?)?;
    }
    for process in &processes {
        process.write()?;
    }
    InitReport::new(file, directory, known.is_none(), &processes)
}

/// The authority of this cell, if the directory has one. A directory with anything else in it is not touched.
fn existing_authority(
    file: &ReplicationFile,
    directory: &Path,
    authority_file: &Path,
) -> Result<Option<ClusterAuthority>, CellDirectoryError> {
    let Some(text) = private_files::read(authority_file)? else {
        return match private_files::is_empty(directory)? {
            true => Ok(None),
            false => Err(CellDirectoryError::NotACell { directory: directory.to_owned() }),
        };
    };
    let authority = ClusterAuthority::from_toml(&text).map_err(|source| CellDirectoryError::Unreadable {
        file: authority_file.to_owned(),
        cause: source.to_string(),
    })?;
    if authority.cell.as_str() != file.cell.uuid {
        let (found, wanted) = (authority.cell.to_string(), file.cell.uuid.clone());
        return Err(CellDirectoryError::OtherCell { directory: directory.to_owned(), found, wanted });
    }
    Ok(Some(authority))
}

#[cfg(test)]
mod tests;
