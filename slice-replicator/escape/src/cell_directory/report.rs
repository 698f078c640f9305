//! What `escape cell init` did, and what comes next.

use super::error::CellDirectoryError;
use super::process_directory::{ProcessDirectory, State};
use super::{AUTHORITY, private_files};
use crate::config::ReplicationFile;
use escape_link::pki::role_from_label;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

/// The report; also the JSON of `--json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InitReport {
    /// The cell.
    pub cell: String,
    /// Its directory.
    pub directory: PathBuf,
    /// The authority was made now; otherwise it was there.
    pub new_authority: bool,
    /// All processes of the cell.
    pub processes: Vec<ProcessReport>,
    /// Directories of processes that the file names no more. They stay.
    pub no_longer_named: Vec<String>,
    /// What is possible, but perhaps not meant.
    pub notes: Vec<String>,
}

/// One process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProcessReport {
    /// `orchestrator`, `edge`, `node-3`.
    pub process: String,
    /// Where it runs: a node's host by its label, the others' by their address.
    pub host: String,
    /// What to copy there.
    pub directory: PathBuf,
    /// Its configuration in it.
    pub configuration: PathBuf,
    /// What became of it.
    pub state: State,
    /// What starts it there.
    pub command: String,
}

impl InitReport {
    pub(super) fn new(
        file: &ReplicationFile,
        directory: &Path,
        new_authority: bool,
        processes: &[ProcessDirectory<'_>],
    ) -> Result<Self, CellDirectoryError> {
        let named: BTreeSet<String> = processes.iter().map(|process| process.process.label()).collect();
        let mut no_longer_named = private_files::names(directory)?;
        no_longer_named.retain(|name| role_from_label(name).is_ok() && !named.contains(name));
        no_longer_named.sort();
        let processes = processes.iter().map(|process| ProcessReport {
            process: process.process.label(),
            host: process.process.host(file),
            directory: process.directory.clone(),
            configuration: process.file.clone(),
            state: process.state,
            command: process.command(),
        });
        Ok(Self {
            cell: file.cell.uuid.clone(),
            directory: directory.to_owned(),
            new_authority,
            processes: processes.collect(),
            no_longer_named,
            notes: loopback_note(file).into_iter().collect(),
        })
    }

    /// How many processes are in this state.
    fn count(&self, state: State) -> usize {
        self.processes.iter().filter(|process| process.state == state).count()
    }
}

/// Loopback addresses are right only where the cell's hosts are one machine.
fn loopback_note(file: &ReplicationFile) -> Option<String> {
    let control = &file.control;
    let others = [control.orchestrator, control.orchestrator_heartbeat, control.edge];
    let of_nodes = file.nodes.iter().flat_map(|node| [node.control, node.heartbeat]);
    let loopback: BTreeSet<_> =
        others.into_iter().chain(of_nodes).filter(|address| address.ip().is_loopback()).collect();
    let told: Vec<String> = loopback.iter().map(ToString::to_string).collect();
    (!told.is_empty()).then(|| format!("only processes of the same machine reach {}", told.join(", ")))
}

impl fmt::Display for InitReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "cell {} in {}", self.cell, self.directory.display())?;
        let made = if self.new_authority { "new" } else { "there" };
        writeln!(f, "  {made:9}  {AUTHORITY}: stays here; whoever holds it can be anyone in the cell")?;
        for process in &self.processes {
            let state = match process.state {
                State::New => "new",
                State::Unchanged => "unchanged",
                State::Changed => "changed",
            };
            let (name, host, command) = (&process.process, &process.host, &process.command);
            writeln!(f, "  {state:9}  {name:<13} on {host}: {command}")?;
        }
        for name in &self.no_longer_named {
            writeln!(f, "  left over  {name}: not in the file any more")?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        if self.count(State::Changed) > 0 {
            writeln!(f, "changed: copy the directory to its host again and restart the process, one after the other")?;
        }
        if self.count(State::New) > 0 {
            writeln!(
                f,
                "next: copy each new directory to its host (it holds the process's keys: scp -pr), make the interfaces \
                 (docs/hosts.md), start orchestrator, edge and nodes there by the commands above"
            )?;
        }
        Ok(())
    }
}
