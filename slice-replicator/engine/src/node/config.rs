//! What a node's engine is told at its start.

use crate::Mutant;
use escape_proto::NodeId;

/// Settings of a node's engine. Times in microseconds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeConfig {
    /// This node.
    pub me: NodeId,
    /// Its host label: standbys are chosen on other hosts.
    pub host: String,
    /// A gap between two calls longer than this is a pause: the standby (Solo: the store) is asked before anything is
    /// released (T7). Not longer than the failure detection takes.
    pub pause_limit_us: u64,
    /// A compare-and-swap or read without an outcome is sent again after this (R1).
    pub cas_resend_us: u64,
    /// A flip request without an answer is sent again after this (T6).
    pub flip_resend_us: u64,
    /// A probe without an answer is sent again after this (T7).
    pub probe_resend_us: u64,
    /// A full copy that was refused for a passing cause is sent again after this.
    pub full_retry_us: u64,
    /// A standby that is Up but has had no link for this long is replaced if another candidate is there (T3, R2).
    pub replace_after_us: u64,
    /// A candidate that has not acknowledged for this long is given up: it must not hold output back (T3). Once the
    /// record is being changed it cannot be given up any more (R1).
    pub sync_stall_us: u64,
    /// Groups that sync a new standby at once: few, so that bulk copies leave room for commits.
    pub syncs_max: usize,
    /// After a failover or the loss of standbys, no new standby is synced for this long: first the clients' requests.
    /// The groups are Solo meanwhile, and that time is counted.
    pub calm_us: u64,
    /// Full copies on their way at once, per group and receiver.
    pub fulls_max: u32,
    /// Checkpoints per group that wait for a record which this node has not seen yet; further ones are refused.
    pub waiting_per_group_max: usize,
    /// The same for all groups together.
    pub waiting_max: usize,
    /// The guest's report of being down is repeated after this while nothing changes (T11).
    pub report_resend_us: u64,
    /// With fewer free slots than this in its leases a node asks for another one.
    pub slots_low: u32,
    /// Between two suspects that are plugged: the first shows what it does meanwhile.
    pub suspects_apart_us: u64,
    /// A slice that is to move and is not at rest and acknowledged after this stays where it is (T9).
    pub move_freeze_us: u64,
    /// Deliberate fault.
    pub broken: Option<Mutant>,
}

impl NodeConfig {
    /// Defaults for this node.
    pub fn new(me: NodeId, host: impl Into<String>) -> Self {
        Self {
            me,
            host: host.into(),
            pause_limit_us: 10_000,
            cas_resend_us: 50_000,
            flip_resend_us: 20_000,
            probe_resend_us: 20_000,
            full_retry_us: 20_000,
            replace_after_us: 500_000,
            sync_stall_us: 1_000_000,
            syncs_max: 4,
            calm_us: 30_000,
            fulls_max: 4,
            waiting_per_group_max: 64,
            waiting_max: 1_024,
            report_resend_us: 100_000,
            slots_low: 64,
            suspects_apart_us: 20_000,
            move_freeze_us: 200_000,
            broken: None,
        }
    }
}
