//! I11: some time after the last fault everything is protected, steered, and moving.

use crate::network::Endpoint;
use crate::node_process::NodeProcess;
use crate::world::World;
use escape_proto::{LeaseState, Mode, NodeState, SliceId};
use std::collections::BTreeSet;

/// A client that waits longer than this for a reply, microseconds, is one that somebody has left alone.
const REPLY_US_MAX: u64 = 100_000;

impl World {
    /// What keeps the cell from being whole; the first thing that is found.
    pub fn what_is_missing(&self, healed_at: u64) -> Option<String> {
        self.nodes_missing()
            .or_else(|| self.groups_missing())
            .or_else(|| self.left_over_in_nodes())
            .or_else(|| self.given_up_yet_there())
            .or_else(|| self.leases_kept())
            .or_else(|| self.clients_stuck(healed_at))
    }

    /// A client has no reply yet to what it asked a while ago.
    pub fn someone_waits(&self) -> bool {
        self.clients.iter().any(|client| client.waits_since().is_some_and(|since| self.now > since + REPLY_US_MAX))
    }

    fn nodes_missing(&self) -> Option<String> {
        let store = &self.store.state;
        let in_cell = |n: &usize| {
            self.member_of(Endpoint::Node(*n)).is_some_and(|m| store.node(m.node).is_some_and(|r| r.is_up(m)))
        };
        (0..self.nodes.len()).find(|n| !in_cell(n)).map(|n| format!("node {n} is not in the cell"))
    }

    fn groups_missing(&self) -> Option<String> {
        let store = &self.store.state;
        let up = store.nodes().filter(|n| n.state == NodeState::Up);
        let hosts: BTreeSet<&str> = up.map(|n| n.host.as_str()).collect();
        for r in store.groups().filter(|r| r.mode != Mode::Lost) {
            if hosts.len() > 1 && r.mode != Mode::Paired {
                return Some(format!("group {} is not protected: {r:?}", r.group));
            }
            let steered = self.fabric.groups.get(&r.group);
            if steered.is_none_or(|s| s.owner != r.owner || s.mirror != r.standby || s.epoch != r.epoch) {
                return Some(format!("group {} is not steered as its record says: {r:?}, {steered:?}", r.group));
            }
        }
        None
    }

    fn left_over_in_nodes(&self) -> Option<String> {
        for (n, place) in self.nodes.iter().enumerate() {
            let Some(p) = &place.process else { continue };
            if let Some((slice, since)) = p.vmm.oldest_held().filter(|(_, since)| self.now > since + 500_000) {
                let ledger = p.engine.slice_report(slice);
                return Some(format!("node {n} has held a frame of slice {slice} since {since}: {ledger:?}"));
            }
            if p.vmm.bodies.len() > 64 {
                return Some(format!("node {n} keeps {} bodies", p.vmm.bodies.len()));
            }
            let me = p.engine.me();
            for (slice, image) in &p.vmm.standby {
                let record = self.store.state.group(image.group);
                if record.is_none_or(|r| r.standby != me || me.is_none()) {
                    return Some(format!("node {n} still has an image of slice {slice}: {record:?}"));
                }
            }
        }
        None
    }

    fn given_up_yet_there(&self) -> Option<String> {
        self.store.state.quarantine().filter(|r| r.given_up).find_map(|record| {
            let slice = record.slice;
            let has = |p: &NodeProcess| p.vmm.own.contains_key(&slice) || p.vmm.standby.contains_key(&slice);
            let n = self.nodes.iter().position(|place| place.process.as_ref().is_some_and(has))?;
            Some(format!("node {n} has slice {slice}, which was given up"))
        })
    }

    fn leases_kept(&self) -> Option<String> {
        let mut draining = self.store.state.leases().filter(|l| l.state == LeaseState::Draining);
        let unused = draining.find(|lease| {
            let in_lease = |s: &SliceId| s.slot / 64 == lease.lease.0;
            let mut processes = self.nodes.iter().filter_map(|place| place.process.as_ref());
            !processes.any(|p| p.vmm.own.keys().chain(p.vmm.standby.keys()).any(in_lease))
        })?;
        Some(format!("lease {} is not free, although nobody has a slice in it", unused.lease))
    }

    fn clients_stuck(&self, healed_at: u64) -> Option<String> {
        let stuck = |since: u64| self.now > since + 1_000_000 && since > healed_at + 1_000_000;
        let c = self.clients.iter().position(|client| stuck(client.stuck_since))?;
        Some(format!("client {c} is stuck since {}", self.clients[c].stuck_since))
    }
}
