//! The orchestrator's figures under the names of the table of metrics.

use super::process::OrchestratorProcess;
use escape_link::ListenerCounters;
use escape_metrics::{Metric, Reading};
use escape_proto::{CellStatus, Mode};

/// What the process counts beside the cell's status.
#[derive(Clone, Copy, Debug, Default)]
struct OwnCounters {
    beats_forged: u64,
    beats_malformed: u64,
    events_dropped: u64,
    listener: ListenerCounters,
}

impl OrchestratorProcess {
    /// Everything to be told.
    pub(super) fn reading(&self) -> Reading {
        let (beats_forged, beats_malformed) = self.beats.refused();
        let own = OwnCounters {
            beats_forged,
            beats_malformed,
            events_dropped: self.log.dropped_in_all(),
            listener: self.listener.counters(),
        };
        reading(&self.cell_status(), &own)
    }
}

fn reading(cell: &CellStatus, own: &OwnCounters) -> Reading {
    let mut to = Reading::default();
    add_nodes(cell, &mut to);
    add_groups(cell, &mut to);
    to.count(Metric::OrchestratorSlicesLost, cell.slices_lost);
    to.count(Metric::OrchestratorSlicesQuarantined, cell.slices_quarantined);
    to.count(Metric::OrchestratorFailovers, cell.failovers);
    if let Some(last) = &cell.last_failover {
        last.plugged_us.into_iter().for_each(|us| to.micros(Metric::OrchestratorFailoverPlugged, us));
        last.protected_us.into_iter().for_each(|us| to.micros(Metric::OrchestratorFailoverProtected, us));
    }
    to.count(Metric::OrchestratorRevision, cell.revision);
    to.count(Metric::OrchestratorTransactions, cell.transactions_waiting);
    to.count(Metric::OrchestratorEdgeLinked, u64::from(cell.edge_linked));
    to.count_of(Metric::HeartbeatsRefused, "forged", own.beats_forged);
    to.count_of(Metric::HeartbeatsRefused, "malformed", own.beats_malformed);
    to.count(Metric::EventsDropped, own.events_dropped);
    own.listener.outcomes().into_iter().for_each(|(how, count)| to.count_of(Metric::LinkHandshakes, how, count));
    to
}

fn add_nodes(cell: &CellStatus, to: &mut Reading) {
    let up = || cell.nodes.iter().filter(|node| node.up);
    for (state, count) in [
        ("up", up().count()),
        ("dead", cell.nodes.len() - up().count()),
        ("linked", up().filter(|node| node.linked).count()),
        ("suspected", up().filter(|node| node.suspected).count()),
    ] {
        to.count_of(Metric::OrchestratorNodes, state, count as u64);
    }
    for (state, count) in [
        ("protected", up().map(|node| u64::from(node.protected)).sum()),
        ("solo", up().map(|node| u64::from(node.solo)).sum()),
        ("standby", up().map(|node| u64::from(node.standby)).sum()),
    ] {
        to.count_of(Metric::OrchestratorSlices, state, count);
    }
    to.count(Metric::OrchestratorHeldFrames, up().map(|node| u64::from(node.held_frames)).sum());
    to.micros(Metric::OrchestratorHeldAge, up().map(|node| node.held_age_us).max().unwrap_or(0));
}

fn add_groups(cell: &CellStatus, to: &mut Reading) {
    let of = |mode| cell.groups.iter().filter(|group| group.mode == mode).count() as u64;
    for (mode, count) in [("paired", of(Mode::Paired)), ("solo", of(Mode::Solo)), ("lost", cell.groups_lost)] {
        to.count_of(Metric::OrchestratorGroups, mode, count);
    }
    let longest = cell.groups.iter().map(|group| group.unprotected_us).max();
    to.micros(Metric::OrchestratorUnprotected, longest.unwrap_or(0));
}

#[cfg(test)]
mod tests {
    use super::*;
    use escape_metrics::{Part, TABLE};
    use escape_proto::{FailoverCause, FailoverStatus};
    use std::collections::BTreeSet;

    #[test]
    fn an_orchestrator_tells_every_metric_of_its_part_and_no_other() {
        let last_failover = Some(FailoverStatus {
            node: 1,
            inc: 1,
            unix_ms: 0,
            cause: FailoverCause::GuestDown { cause: String::new() },
            groups: 1,
            groups_plugged: 1,
            groups_protected: 1,
            slices: 1,
            plugged_us: Some(1),
            protected_us: Some(2),
        });
        let cell = CellStatus { last_failover, ..CellStatus::default() };
        let told: BTreeSet<Metric> = reading(&cell, &OwnCounters::default()).metrics().collect();
        let own = [Metric::ProcessCpu, Metric::ProcessResident];
        let wanted = TABLE.iter().filter(|l| l.parts.contains(&Part::Orchestrator) && !own.contains(&l.metric));
        assert_eq!(told, wanted.map(|line| line.metric).collect());
    }
}
