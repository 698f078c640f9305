//! A process of the cell, as the replication file names it.

use crate::config::{NodeEntry, ReplicationFile};
use escape_link::ClusterSecrets;
use escape_link::pki::role_label;
use escape_proto::{NodeId, Role};

/// One of the processes that a cell consists of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Process<'a> {
    Orchestrator,
    Edge,
    /// No process: a person's commands.
    Operator,
    Node(&'a NodeEntry),
}

impl<'a> Process<'a> {
    /// All of a cell.
    pub(super) fn all(file: &'a ReplicationFile) -> impl Iterator<Item = Self> {
        let nodes = file.nodes.iter().map(Process::Node);
        [Self::Orchestrator, Self::Edge].into_iter().chain(nodes).chain([Self::Operator])
    }

    pub(super) const fn role(self) -> Role {
        match self {
            Self::Orchestrator => Role::Orchestrator,
            Self::Edge => Role::Edge,
            Self::Operator => Role::Operator,
            Self::Node(node) => Role::Node(NodeId(node.id)),
        }
    }

    /// `node-3`: also the name of its directory.
    pub(super) fn label(self) -> String {
        role_label(self.role())
    }

    /// The stem of its configuration's name.
    pub(super) const fn part(self) -> &'static str {
        match self {
            Self::Orchestrator => "orchestrator",
            Self::Edge => "edge",
            Self::Node(_) => "node",
            Self::Operator => "operator",
        }
    }

    /// The subcommand that it runs.
    pub(super) const fn subcommand(self) -> &'static str {
        match self {
            Self::Operator => "status",
            other => other.part(),
        }
    }

    /// Where it runs: a node's host by its label, the others' by their address.
    pub(super) fn host(self, file: &ReplicationFile) -> String {
        match self {
            Self::Orchestrator => file.control.orchestrator.ip().to_string(),
            Self::Edge => file.control.edge.ip().to_string(),
            Self::Operator => "any host".into(),
            Self::Node(node) => node.host.clone(),
        }
    }

    /// Its configuration, as TOML.
    pub(super) fn configuration(
        self,
        file: &ReplicationFile,
        secrets: ClusterSecrets,
    ) -> Result<String, toml::ser::Error> {
        match self {
            Self::Orchestrator => toml::to_string(&file.orchestrator_config(secrets)),
            Self::Edge => toml::to_string(&file.edge_config(secrets)),
            Self::Operator => toml::to_string(&file.operator_config(secrets)),
            Self::Node(node) => toml::to_string(&file.node_config(node, secrets)),
        }
    }
}
