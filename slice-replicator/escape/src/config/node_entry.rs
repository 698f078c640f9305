//! `[[nodes]]`: one node.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// A node, its addresses and its interfaces: two on its own host, two on the edge's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "NodeKeys")]
pub struct NodeEntry {
    /// Id, unique in the cell.
    pub id: u16,
    /// The machine it runs on: a group's standby is always on another one.
    pub host: String,
    /// Where its replication link listens, and peers call it (TCP).
    pub control: SocketAddr,
    /// Where heartbeats come to it (UDP).
    pub heartbeat: SocketAddr,
    /// Tap of its guest, on its host.
    pub tap: String,
    /// Tap on which it gets copies for groups that it stands by for, on its host.
    pub mirror: String,
    /// The edge's interface that leads to the tap.
    pub edge_port: String,
    /// The edge's interface that leads to the mirror tap.
    pub edge_mirror: String,
    /// Where it tells its metrics over HTTP; none: nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<SocketAddr>,
    /// CPU of its data thread; none: the kernel chooses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u16>,
}

/// The keys as they are written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeKeys {
    id: u16,
    host: String,
    control: SocketAddr,
    heartbeat: Option<SocketAddr>,
    tap: Option<String>,
    mirror: Option<String>,
    edge_port: Option<String>,
    edge_mirror: Option<String>,
    metrics: Option<SocketAddr>,
    cpu: Option<u16>,
}

impl From<NodeKeys> for NodeEntry {
    fn from(keys: NodeKeys) -> Self {
        let NodeKeys { id, host, control, metrics, cpu, .. } = keys;
        Self {
            id,
            host,
            control,
            heartbeat: keys.heartbeat.unwrap_or(control),
            tap: keys.tap.unwrap_or_else(|| format!("escape{id}")),
            mirror: keys.mirror.unwrap_or_else(|| format!("escape{id}m")),
            edge_port: keys.edge_port.unwrap_or_else(|| format!("node{id}")),
            edge_mirror: keys.edge_mirror.unwrap_or_else(|| format!("node{id}m")),
            metrics,
            cpu,
        }
    }
}
