use std::collections::BTreeMap;

use crate::NodeId;
use crate::nft::CounterValue;

/// Names of the table's counters; the fields of [`FabricCounters`] say what they mean.
pub(super) mod names {
    pub(in super::super) const STEERED: &str = "steered";
    pub(in super::super) const MIRRORED: &str = "mirrored";
    pub(in super::super) const PLACED: &str = "placed";
    pub(in super::super) const ARP: &str = "arp";
    pub(in super::super) const NO_OWNER: &str = "no_owner";
    pub(in super::super) const NO_BUCKET: &str = "no_bucket";
    pub(in super::super) const FLOWS_FULL: &str = "flows_full";
    pub(in super::super) const UNKNOWN_FLOW: &str = "unknown_flow";
    pub(in super::super) const WRONG_PORT: &str = "wrong_port";
    pub(in super::super) const NOT_SERVICE: &str = "not_service";
    pub(in super::super) const ICMP: &str = "icmp";
    pub(in super::super) const FRAGMENT: &str = "fragment";
    pub(in super::super) const NOT_TCP: &str = "not_tcp";
    pub(in super::super) const OTHER: &str = "other";

    pub(in super::super) const ALL: [&str; 14] = [
        STEERED,
        MIRRORED,
        PLACED,
        ARP,
        NO_OWNER,
        NO_BUCKET,
        FLOWS_FULL,
        UNKNOWN_FLOW,
        WRONG_PORT,
        NOT_SERVICE,
        ICMP,
        FRAGMENT,
        NOT_TCP,
        OTHER,
    ];
}

/// The counter of frames that a node sent to clients.
pub(super) fn sent_counter(node: NodeId) -> String {
    format!("sent_by_node_{node}")
}

/// The counter of frames that a node sent and that were dropped.
pub(super) fn drop_counter(node: NodeId) -> String {
    format!("dropped_of_node_{node}")
}

/// Frames counted since the fabric was installed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FabricCounters {
    /// From clients, sent to their owner.
    pub steered: u64,
    /// Copies of these, sent to a standby.
    pub mirrored: u64,
    /// SYNs of new flows that were given a group (they count as steered too, if it has an owner).
    pub placed: u64,
    /// ARP frames on the uplink, let through to [`crate::arp::ArpResponder`].
    pub arp: u64,
    /// Refused: the flow's group has no owner at this moment.
    pub no_owner: u64,
    /// Refused: the new flow's bucket has no group.
    pub no_bucket: u64,
    /// Refused: a new flow, but no room for it.
    pub flows_full: u64,
    /// Refused: of no known flow, and not a SYN that could begin one.
    pub unknown_flow: u64,
    /// Refused: TCP to the service, but not to a protected port.
    pub wrong_port: u64,
    /// Refused: IPv4, but not to the service.
    pub not_service: u64,
    /// Refused: ICMP to the service (errors too: path MTU must be clamped at the guest).
    pub icmp: u64,
    /// Refused: fragments to the service.
    pub fragment: u64,
    /// Refused: another protocol to the service.
    pub not_tcp: u64,
    /// Refused: neither IPv4 nor ARP (VLAN-tagged frames among them), or cut short.
    pub other: u64,
    /// Sent to clients, per node: the group was its own at that moment. Counted since its port was added.
    pub sent: BTreeMap<NodeId, u64>,
    /// Dropped, per node that sent them: not the owner of the flow, or no frame of a protected flow.
    /// Counted since its port was added.
    pub dropped: BTreeMap<NodeId, u64>,
}

impl FabricCounters {
    /// All frames from clients that were refused.
    pub const fn refused(&self) -> u64 {
        self.no_owner
            + self.no_bucket
            + self.flows_full
            + self.unknown_flow
            + self.wrong_port
            + self.not_service
            + self.icmp
            + self.fragment
            + self.not_tcp
            + self.other
    }

    pub(super) fn read(counted: &BTreeMap<String, CounterValue>, nodes: impl Iterator<Item = NodeId> + Clone) -> Self {
        let packets = |name: &str| counted.get(name).map_or(0, |value| value.packets);
        Self {
            steered: packets(names::STEERED),
            mirrored: packets(names::MIRRORED),
            placed: packets(names::PLACED),
            arp: packets(names::ARP),
            no_owner: packets(names::NO_OWNER),
            no_bucket: packets(names::NO_BUCKET),
            flows_full: packets(names::FLOWS_FULL),
            unknown_flow: packets(names::UNKNOWN_FLOW),
            wrong_port: packets(names::WRONG_PORT),
            not_service: packets(names::NOT_SERVICE),
            icmp: packets(names::ICMP),
            fragment: packets(names::FRAGMENT),
            not_tcp: packets(names::NOT_TCP),
            other: packets(names::OTHER),
            sent: nodes.clone().map(|node| (node, packets(&sent_counter(node)))).collect(),
            dropped: nodes.map(|node| (node, packets(&drop_counter(node)))).collect(),
        }
    }
}
