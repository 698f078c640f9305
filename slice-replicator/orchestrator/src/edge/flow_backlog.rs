//! Changes of single flows that wait for the fabric.

use escape_fabric::GroupId;
use escape_fabric::fabric::{FLOWS_MAX, Flow};
use std::collections::VecDeque;
use std::net::Ipv4Addr;

/// Changes that may wait. Full: the change is dropped and counted; a flow that was not bound follows its bucket, one that
/// was not unbound expires with its group.
const CHANGES_MAX: usize = 2 * FLOWS_MAX as usize;
/// Flows per fabric transaction: some milliseconds at most, so that a flip never waits long.
const CHUNK_MAX: usize = 512;

/// One kind of change to some flows, in the order in which they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FlowChange {
    /// These flows belong to these groups.
    Bind(Vec<(Flow, GroupId)>),
    /// These ended.
    Unbind(Vec<Flow>),
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct FlowBacklog {
    changes: VecDeque<(Flow, Option<GroupId>)>,
    dropped: u64,
}

impl FlowBacklog {
    pub(super) fn bind(&mut self, group: escape_proto::GroupId, flows: &[escape_proto::Flow]) {
        flows.iter().for_each(|flow| self.push((fabric_flow(flow), Some(group.0))));
    }

    pub(super) fn unbind(&mut self, flows: &[escape_proto::Flow]) {
        flows.iter().for_each(|flow| self.push((fabric_flow(flow), None)));
    }

    /// The next changes of one kind.
    pub(super) fn next(&mut self) -> Option<FlowChange> {
        let bind = self.changes.front()?.1.is_some();
        let same = |change: &&(Flow, Option<GroupId>)| change.1.is_some() == bind;
        let n = self.changes.iter().take(CHUNK_MAX).take_while(same).count();
        let taken = self.changes.drain(..n);
        Some(if bind {
            FlowChange::Bind(taken.filter_map(|(flow, group)| Some((flow, group?))).collect())
        } else {
            FlowChange::Unbind(taken.map(|(flow, _)| flow).collect())
        })
    }

    pub(super) fn len(&self) -> usize {
        self.changes.len()
    }

    /// Changes dropped because the queue was full.
    pub(super) const fn dropped(&self) -> u64 {
        self.dropped
    }

    fn push(&mut self, change: (Flow, Option<GroupId>)) {
        if self.changes.len() < CHANGES_MAX {
            self.changes.push_back(change);
        } else {
            self.dropped += 1;
        }
    }
}

/// The cluster's flow as the fabric writes it.
pub(super) fn fabric_flow(flow: &escape_proto::Flow) -> Flow {
    Flow::new(Ipv4Addr::from(flow.ip), flow.port, flow.service_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_keep_their_order_and_come_in_bounded_pieces() {
        let flow = |port| escape_proto::Flow { ip: [10, 0, 0, 1], port, service_port: 80 };
        let flows: Vec<_> = (0..700).map(flow).collect();
        let mut backlog = FlowBacklog::default();
        backlog.bind(escape_proto::GroupId(3), &flows);
        backlog.unbind(&flows[..5]);
        backlog.bind(escape_proto::GroupId(4), &flows[..1]);
        let pieces: Vec<_> = std::iter::from_fn(|| backlog.next()).collect();
        let sizes: Vec<_> = pieces
            .iter()
            .map(|piece| match piece {
                FlowChange::Bind(flows) => (true, flows.len()),
                FlowChange::Unbind(flows) => (false, flows.len()),
            })
            .collect();
        assert_eq!(sizes, [(true, 512), (true, 188), (false, 5), (true, 1)]);
        assert_eq!(backlog.dropped(), 0);
    }

    #[test]
    fn the_queue_is_bounded() {
        let flow = |port| escape_proto::Flow { ip: [10, 0, 0, 1], port, service_port: 80 };
        let flows: Vec<_> = (0..=u16::MAX).map(flow).collect();
        let mut backlog = FlowBacklog::default();
        for _ in 0..3 {
            backlog.unbind(&flows);
        }
        assert_eq!((backlog.len(), backlog.dropped()), (CHANGES_MAX, 65_536));
    }
}
