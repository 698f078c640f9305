//! The sections of the replication file. Units are in the names; ranges are in `replication_file.rs`.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::mac_address::MacAddress;

/// `[cell]`: what all nodes have in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    /// Identity of the cell: two cells can never be mixed up.
    pub uuid: String,
    /// "freestanding", or the path of an ELF image or of a Linux guest's image file.
    #[serde(default = "freestanding")]
    pub image: String,
    /// The guests' boot command line, at most 255 bytes.
    #[serde(default)]
    pub cmdline: String,
    /// Ordinary RAM of each guest, MiB.
    #[serde(default = "ram_mib")]
    pub ram_mib: u32,
    /// Slots of the arena; each holds one session. A multiple of 64.
    #[serde(default = "slots")]
    pub slots: u32,
    /// Leases of 64 slots that each node asks for.
    #[serde(default = "leases_per_node")]
    pub leases_per_node: u32,
    /// Groups per node: slices of a group share one standby.
    #[serde(default = "groups_per_node")]
    pub groups_per_node: u32,
}

/// The image that comes with the command.
pub const FREESTANDING: &str = "freestanding";

pub(super) fn freestanding() -> String {
    FREESTANDING.into()
}

pub(super) fn ram_mib() -> u32 {
    64
}

fn slots() -> u32 {
    16_384
}

fn leases_per_node() -> u32 {
    16
}

fn groups_per_node() -> u32 {
    16
}

/// `[service]`: what clients see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Service {
    /// Address shared by the guests of the cell.
    pub ip: Ipv4Addr,
    /// MAC address shared by the guests of the cell.
    pub mac: MacAddress,
    /// TCP port of the HTTP session server.
    pub http_port: u16,
    /// TCP port of the checked byte stream.
    pub stream_port: u16,
    /// Seconds without a request after which a session is closed; 0 = never.
    pub idle_timeout_s: u32,
    /// What makes a slice.
    pub slice_per: SlicePer,
}

/// `[service] slice_per`: what makes a slice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SlicePer {
    /// Every connection is a slice of its own.
    #[default]
    Connection,
    /// All connections of a client address are one slice, and share its session.
    Client,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            ip: Ipv4Addr::new(10, 77, 0, 10),
            mac: MacAddress([0x02, 0x65, 0x73, 0x63, 0x00, 0x01]),
            http_port: 80,
            stream_port: 9_000,
            idle_timeout_s: 300,
            slice_per: SlicePer::Connection,
        }
    }
}

/// `[timings]`: when a node is dead, and how old uncommitted state may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timings {
    /// Between two heartbeats, milliseconds.
    pub heartbeat_ms: u64,
    /// Silence after which a node is suspected, milliseconds.
    pub suspect_after_ms: u64,
    /// Heartbeats without progress of the data thread for this long = it hangs, milliseconds.
    pub progress_timeout_ms: u64,
    /// No sign of life of the own guest's main loop for this long = the guest hangs, milliseconds.
    pub guest_timeout_ms: u64,
    /// A guest that was started and is not up after this has not booted: it is started again, milliseconds.
    pub guest_boot_ms: u64,
    /// State that changed without output is committed within this, milliseconds.
    pub max_staleness_ms: u64,
    /// An owner whose loop paused longer asks its standby before it releases anything, milliseconds.
    pub pause_limit_ms: u64,
    /// How long a group whose copies are on nodes that were declared dead waits for one that still remembers it,
    /// milliseconds (T5).
    pub claim_ms: u64,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            heartbeat_ms: 5,
            suspect_after_ms: 40,
            progress_timeout_ms: 300,
            guest_timeout_ms: 120,
            guest_boot_ms: 60_000,
            max_staleness_ms: 250,
            pause_limit_ms: 36,
            claim_ms: 10_000,
        }
    }
}

/// `[quotas]`: how much may wait, and for how long. What is over a quota is dropped for that slice alone; TCP repeats.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quotas {
    /// Output held for one slice, KiB.
    pub held_kib_per_slice: u32,
    /// Output held by one node, MiB.
    pub held_mib_per_node: u32,
    /// Oldest held output, milliseconds.
    pub held_ms: u64,
    /// Inbound frames kept by one node behind closed gates and for the groups it stands by for, MiB.
    pub mirror_mib_per_node: u32,
    /// What a node's network link carries, megabits per second.
    pub link_mbit: u32,
    /// Share of that link that full copies for new standbys may take, percent.
    pub bulk_percent: u8,
    /// Crashes of one slice per minute before it is quarantined.
    pub slice_crashes_per_minute: u32,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            held_kib_per_slice: 512,
            held_mib_per_node: 64,
            held_ms: 10_000,
            mirror_mib_per_node: 64,
            link_mbit: 10_000,
            bulk_percent: 25,
            slice_crashes_per_minute: 2,
        }
    }
}
