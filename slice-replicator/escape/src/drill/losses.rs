//! Groups of which no copy is left: their sessions may end, all others may not.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Instant;

use super::cell_trait::{Cell, CellError, MishapKind};
use super::error::DrillError;
use super::evidence::Lost;
use crate::load::LoadHandle;

/// Watches for groups that are reported as lost, if the drill may lose some.
#[derive(Debug)]
pub struct Losses {
    /// Clients by group, as they were before the fault; none if nothing may be lost.
    clients: Option<BTreeMap<u64, Vec<SocketAddr>>>,
    groups: BTreeSet<u64>,
    sessions: usize,
}

impl Losses {
    /// Remembers which session is in which group, unless nothing may be lost.
    pub fn watch(cell: &mut dyn Cell, may_lose: bool) -> Result<Self, CellError> {
        let clients = may_lose.then(|| cell.groups_of_clients()).transpose()?;
        let clients = clients.map(|clients| {
            let mut by_group: BTreeMap<u64, Vec<SocketAddr>> = BTreeMap::new();
            for (client, group) in clients {
                by_group.entry(group).or_default().push(client);
            }
            by_group
        });
        Ok(Self { clients, groups: BTreeSet::new(), sessions: 0 })
    }

    /// Tells the clients whose group was reported as lost since `fault`.
    pub fn excuse(&mut self, cell: &mut dyn Cell, load: &LoadHandle, fault: Instant) -> Result<(), DrillError> {
        let Some(clients) = &self.clients else { return Ok(()) };
        for mishap in cell.mishaps().into_iter().filter(|mishap| mishap.at >= fault) {
            let MishapKind::Lost(group) = mishap.what else { continue };
            if self.groups.insert(group)
                && let Some(clients) = clients.get(&group)
            {
                self.sessions += load.excuse(clients)?;
            }
        }
        Ok(())
    }

    /// What was found.
    pub fn found(&self) -> Lost {
        Lost { groups: self.groups.len(), sessions: self.sessions }
    }
}
