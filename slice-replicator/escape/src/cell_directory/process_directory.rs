//! One process's directory.

use super::error::CellDirectoryError;
use super::process::Process;
use super::{identity, private_files};
use crate::config::ReplicationFile;
use escape_link::ClusterAuthority;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What became of a process's directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Made now, with a new identity.
    New,
    /// It was there, and says what the replication file says.
    Unchanged,
    /// It was there, and the replication file says something else now: written anew, with the same identity.
    Changed,
}

/// What is to be in a process's directory.
#[derive(Debug)]
pub(super) struct ProcessDirectory<'a> {
    pub(super) process: Process<'a>,
    pub(super) directory: PathBuf,
    pub(super) file: PathBuf,
    pub(super) state: State,
    text: String,
}

impl<'a> ProcessDirectory<'a> {
    /// Looks at what is there; writes nothing.
    pub(super) fn plan(
        cell: &Path,
        file: &ReplicationFile,
        authority: &ClusterAuthority,
        process: Process<'a>,
    ) -> Result<Self, CellDirectoryError> {
        let directory = cell.join(process.label());
        let path = directory.join(format!("{}.toml", process.part()));
        let present = private_files::read(&path)?;
        let secrets = match &present {
            Some(text) => identity::of_configuration(&path, text, authority, process.role())?,
            None => authority.issue(process.role())?,
        };
        let text = process
            .configuration(file, secrets)
            .map_err(|source| CellDirectoryError::Print { process: process.label(), source })?;
        let state = match &present {
            None => State::New,
            Some(old) if *old == text => State::Unchanged,
            Some(_) => State::Changed,
        };
        Ok(Self { process, directory, file: path, state, text })
    }

    pub(super) fn write(&self) -> Result<(), CellDirectoryError> {
        if self.state == State::Unchanged {
            return Ok(());
        }
        private_files::make_directory(&self.directory)?;
        private_files::write(&self.file, &self.text)
    }

    /// The command that starts the process on its host, where its directory was copied to.
    pub(super) fn command(&self) -> String {
        let process = self.process;
        format!("escape {} {}/{}.toml", process.subcommand(), process.label(), process.part())
    }
}
