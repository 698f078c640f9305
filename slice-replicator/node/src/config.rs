//! What a node must be told.

use crate::error::NodeError;
use crate::quota_config::QuotaConfig;
use escape_abi::layout::{LEASE_SLOTS, SLOTS_MAX};
use escape_link::pki::ClusterSecrets;
use escape_vmm::LinuxGuest;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// Nodes have the ids below the width of a set of suspects.
const NODE_ID_MAX: u16 = 31;
/// Bytes of a guest's boot command line.
pub const CMDLINE_MAX: usize = 255;
/// RAM that a guest can have, MiB.
pub const RAM_MIB: RangeInclusive<u32> = 16..=2030;

/// Configuration of one node (TOML; unknown keys are refused).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// Node id, 0 to 31.
    pub id: u16,
    /// Label for anti-affinity.
    pub host: String,
    /// Where the replication link listens.
    pub listen: SocketAddr,
    /// The orchestrator's link.
    pub orchestrator: SocketAddr,
    /// The edge's link.
    pub edge: SocketAddr,
    /// Where heartbeats arrive (UDP).
    pub beat_listen: SocketAddr,
    /// Where heartbeats go: the orchestrator and every other node.
    pub beats_to: Vec<SocketAddr>,
    /// The data interface.
    pub tap: Interface,
    /// The ingress mirror; the guest never sees it.
    pub mirror: Option<Interface>,
    /// Slots of the cell's arena.
    pub n_slots: u32,
    /// Leases (64 slots each) that the node asks for.
    pub leases: u32,
    /// Ordinary guest RAM, MiB.
    pub ram_mib: u32,
    /// What the guest runs, an ELF file, the same on all nodes of the cell; none: the image that comes with the program.
    #[serde(default)]
    pub image: Option<PathBuf>,
    /// A Linux guest instead, read from its image file by who starts the node.
    #[serde(skip)]
    pub linux: Option<LinuxGuest>,
    /// The guest's boot command line, at most 255 bytes.
    #[serde(default)]
    pub cmdline: String,
    /// The service's address and ports.
    pub service: ServiceConfig,
    /// Times.
    #[serde(default)]
    pub timing: TimingConfig,
    /// Quotas.
    #[serde(default)]
    pub quotas: QuotaConfig,
    /// Hold output and replicate state (the default). `false` measures what that costs: output leaves at once, nothing
    /// is checkpointed, and a failure of this node loses its sessions.
    #[serde(default = "replication_is_on")]
    pub replication: bool,
    /// Where metrics are told over HTTP; none: nowhere.
    #[serde(default)]
    pub metrics: Option<SocketAddr>,
    /// CPU for the data thread (the guest's thread stays free); none: the kernel chooses.
    #[serde(default)]
    pub cpu: Option<u16>,
    /// A deliberate fault (`escape drill --break`); loud in the log.
    #[serde(default)]
    pub broken: Option<String>,
    /// This process's identity.
    pub secrets: ClusterSecrets,
}

impl NodeConfig {
    /// Looks for values that no node can run with.
    ///
    /// # Errors
    /// [`NodeError::Config`] names the first one and what is possible.
    pub fn check(&self) -> Result<(), NodeError> {
        let ServiceConfig { http_port, stream_port, .. } = self.service;
        let TimingConfig { heartbeat_ms, suspect_after_ms, .. } = self.timing;
        let slots_ok = self.n_slots.is_multiple_of(LEASE_SLOTS) && (1..=SLOTS_MAX).contains(&self.n_slots);
        let wrong = if self.id > NODE_ID_MAX {
            format!("id: {} is out of range (0 to {NODE_ID_MAX})", self.id)
        } else if !slots_ok {
            format!("n_slots: {} is impossible (a multiple of {LEASE_SLOTS} up to {SLOTS_MAX})", self.n_slots)
        } else if !self.ram_mib.is_multiple_of(2) || !RAM_MIB.contains(&self.ram_mib) {
            format!("ram_mib: {} is impossible (even, {} to {})", self.ram_mib, RAM_MIB.start(), RAM_MIB.end())
        } else if self.cmdline.len() > CMDLINE_MAX || self.cmdline.contains('\0') {
            format!("cmdline: at most {CMDLINE_MAX} bytes, none of them 0")
        } else if http_port == 0 || stream_port == 0 || http_port == stream_port {
            format!("service: ports {http_port} and {stream_port} must differ and not be 0")
        } else if self.service.slice_per_client && !self.replication {
            // The end of a connection is told by the commit that has it.
            "service: slice_per_client needs replication".into()
        } else if self.service.slice_per_client && self.linux.is_some() {
            "service: a slice of a Linux process has one connection, so slice_per_client is for the freestanding guest"
                .into()
        } else if heartbeat_ms == 0 || suspect_after_ms <= heartbeat_ms {
            format!(
                "timing: suspect_after_ms ({suspect_after_ms}) must exceed heartbeat_ms ({heartbeat_ms}), which must not be 0"
            )
        } else {
            return Ok(());
        };
        Err(NodeError::Config(wrong))
    }

    /// The address under which peers call.
    pub const fn advertised(&self) -> SocketAddr {
        self.listen
    }
}

const fn replication_is_on() -> bool {
    true
}

/// A network interface: one of the two.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Interface {
    /// An open tap that the process inherits.
    Fd(i32),
    /// A tap to open by name.
    Name(String),
}

/// What clients see.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceConfig {
    /// Address shared by the guests of the cell.
    pub ip: std::net::Ipv4Addr,
    /// MAC address shared by the guests of the cell.
    pub mac: [u8; 6],
    /// HTTP session server.
    pub http_port: u16,
    /// Checked byte stream.
    pub stream_port: u16,
    /// Seconds without a request after which a session is closed; 0 = never.
    pub idle_timeout_s: u32,
    /// All connections of a client address are one slice; else each is a slice of its own.
    #[serde(default)]
    pub slice_per_client: bool,
}

/// Times of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TimingConfig {
    /// Between heartbeats, milliseconds.
    pub heartbeat_ms: u64,
    /// Silence after which a peer is suspected, milliseconds.
    pub suspect_after_ms: u64,
    /// Beats of a peer whose data thread makes no progress for this long = it hangs, milliseconds.
    pub progress_timeout_ms: u64,
    /// No sign of life of the own guest's main loop for this long = it hangs, milliseconds.
    pub guest_timeout_ms: u64,
    /// A guest that was started and does not say for this long that it is up has not booted, milliseconds.
    pub guest_boot_ms: u64,
    /// State that changed without output is committed within this, milliseconds.
    pub max_staleness_ms: u64,
    /// A gap of the data thread longer than this makes it ask before it releases (T7), milliseconds.
    pub pause_limit_ms: u64,
}

impl Default for TimingConfig {
    fn default() -> Self {
        Self {
            heartbeat_ms: 5,
            suspect_after_ms: 40,
            progress_timeout_ms: 300,
            guest_timeout_ms: 120,
            guest_boot_ms: 60_000,
            max_staleness_ms: 250,
            pause_limit_ms: 36,
        }
    }
}
