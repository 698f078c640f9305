//! `[control]`: orchestrator, store and the edge's link.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where the processes that are not nodes listen, and what they write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "ControlKeys")]
pub struct Control {
    /// Where the orchestrator listens, and nodes and edge call it (TCP).
    pub orchestrator: SocketAddr,
    /// Where heartbeats come to the orchestrator (UDP).
    pub orchestrator_heartbeat: SocketAddr,
    /// Where the edge listens, and nodes call it (TCP).
    pub edge: SocketAddr,
    /// The cluster's store, a file on a disk that keeps what was synced. Relative: to the orchestrator's directory.
    pub store: PathBuf,
    /// File to which orchestrator and edge append their events. Relative: to their directories. Empty: none.
    pub events: PathBuf,
    /// Where the orchestrator tells its metrics over HTTP; none: nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orchestrator_metrics: Option<SocketAddr>,
    /// Where the edge tells its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edge_metrics: Option<SocketAddr>,
}

/// The keys as they are written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ControlKeys {
    orchestrator: Option<SocketAddr>,
    orchestrator_heartbeat: Option<SocketAddr>,
    edge: Option<SocketAddr>,
    store: Option<PathBuf>,
    events: Option<PathBuf>,
    orchestrator_metrics: Option<SocketAddr>,
    edge_metrics: Option<SocketAddr>,
}

impl From<ControlKeys> for Control {
    fn from(keys: ControlKeys) -> Self {
        let here = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let orchestrator = keys.orchestrator.unwrap_or_else(|| here(7400));
        Self {
            orchestrator,
            orchestrator_heartbeat: keys.orchestrator_heartbeat.unwrap_or(orchestrator),
            edge: keys.edge.unwrap_or_else(|| here(7401)),
            store: keys.store.unwrap_or_else(|| "escape-store.redb".into()),
            events: keys.events.unwrap_or_default(),
            orchestrator_metrics: keys.orchestrator_metrics,
            edge_metrics: keys.edge_metrics,
        }
    }
}

impl Default for Control {
    fn default() -> Self {
        ControlKeys::default().into()
    }
}
