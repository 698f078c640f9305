//! The report on one screen.

use super::report::StatusReport;
use escape_proto::{FailoverCause, FailoverStatus, GroupStatus, Mode, NodeStatus};
use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Groups that are told one by one; more are told by owner and standby.
const GROUPS_TOLD_MAX: usize = 16;

impl Display for StatusReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let cell = &self.cell;
        let edge = if cell.edge_linked { "linked" } else { "NOT LINKED" };
        let up = seconds(cell.uptime_us);
        write!(f, "store revision {}, edge {edge}, orchestrator up for {up}", cell.revision)?;
        match cell.transactions_waiting {
            0 => writeln!(f)?,
            waiting => writeln!(f, ", {waiting} transactions wait for the store")?,
        }
        self.nodes(f)?;
        self.groups(f)?;
        self.totals(f)?;
        match &cell.last_failover {
            None => writeln!(f, "no failover since the orchestrator's start")?,
            Some(last) => failover(f, cell.failovers, last)?,
        }
        match self.problems.as_slice() {
            [] => writeln!(f, "status: well"),
            problems => writeln!(f, "status: {}", problems.join("; ")),
        }
    }
}

impl StatusReport {
    fn nodes(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (node, life, host, state) = ("node", "life", "host", "state");
        writeln!(
            f,
            "\n  {node:>4} {life:>4}  {host:<16} {state:<11} {:>6} {:>9} {:>6} {:>7} {:>6} {:>9}",
            "groups", "protected", "solo", "standby", "held", "oldest"
        )?;
        for node in &self.cell.nodes {
            let NodeStatus { node: id, inc, host, protected, solo, standby, held_frames, held_age_us, .. } = node;
            let (state, groups) = (state_of(node), self.groups_of(*id).count());
            let age = seconds(*held_age_us);
            writeln!(
                f,
                "  {id:>4} {inc:>4}  {host:<16} {state:<11} {groups:>6} {protected:>9} {solo:>6} {standby:>7} \
                 {held_frames:>6} {age:>9}"
            )?;
        }
        Ok(())
    }

    /// Groups one by one if they are few, else those alike together: always one screen.
    fn groups(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut lines: BTreeMap<(u16, Option<u16>, bool), Vec<&GroupStatus>> = BTreeMap::new();
        for group in &self.cell.groups {
            lines.entry((group.owner, group.standby, group.mode == Mode::Paired)).or_default().push(group);
        }
        writeln!(
            f,
            "\n  {:<14} {:>11} {:>5} {:>7}  {:<6} {:>9} {:>6} {:>11}",
            "group", "epoch", "owner", "standby", "mode", "protected", "solo", "one copy for"
        )?;
        let few = self.cell.groups.len() <= GROUPS_TOLD_MAX;
        for groups in lines.values() {
            match few {
                true => groups.iter().try_for_each(|group| alike(f, &[group]))?,
                false => alike(f, groups)?,
            }
        }
        Ok(())
    }

    fn totals(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let cell = &self.cell;
        let sum = |of: fn(&GroupStatus) -> u32| cell.groups.iter().map(|group| u64::from(of(group))).sum::<u64>();
        let held: u64 = cell.nodes.iter().filter(|node| node.up).map(|node| u64::from(node.held_frames)).sum();
        let oldest = cell.nodes.iter().filter(|node| node.up).map(|node| node.held_age_us).max().unwrap_or(0);
        writeln!(
            f,
            "\nslices: {} protected, {} on one copy, {} lost, {} quarantined; groups lost at any time: {}",
            sum(|group| group.protected),
            sum(|group| group.solo),
            cell.slices_lost,
            cell.slices_quarantined,
            cell.groups_lost
        )?;
        writeln!(f, "held: {held} frames, the oldest for {}", seconds(oldest))?;
        let active: u64 = cell.nodes.iter().filter(|node| node.up).map(|node| u64::from(node.leases)).sum();
        let (free, draining) = (cell.leases_free, cell.leases_draining);
        writeln!(
            f,
            "leases of 64 slots: {active} of nodes, {draining} with sessions of former lives alone, {free} free"
        )
    }
}

/// One line for groups with the same owner, standby and mode.
fn alike(f: &mut Formatter<'_>, groups: &[&GroupStatus]) -> fmt::Result {
    let Some(first) = groups.first() else { return Ok(()) };
    let name = match groups.len() {
        1 => first.group.to_string(),
        many => format!("{many} groups"),
    };
    let epochs = groups.iter().map(|group| group.epoch);
    let epoch = match (epochs.clone().min(), epochs.max()) {
        (Some(low), Some(high)) if low != high => format!("{low}-{high}"),
        (low, _) => low.unwrap_or(0).to_string(),
    };
    let standby = first.standby.map_or_else(|| "-".into(), |standby| standby.to_string());
    let mode = format!("{:?}", first.mode);
    let protected: u64 = groups.iter().map(|group| u64::from(group.protected)).sum();
    let solo: u64 = groups.iter().map(|group| u64::from(group.solo)).sum();
    let longest = seconds(groups.iter().map(|group| group.unprotected_us).max().unwrap_or(0));
    let owner = first.owner;
    writeln!(f, "  {name:<14} {epoch:>11} {owner:>5} {standby:>7}  {mode:<6} {protected:>9} {solo:>6} {longest:>11}")
}

const fn state_of(node: &NodeStatus) -> &'static str {
    match (node.up, node.linked, node.suspected) {
        (false, ..) => "dead",
        (true, _, true) => "suspected",
        (true, false, _) => "up, no link",
        (true, true, _) => "up",
    }
}

fn failover(f: &mut Formatter<'_>, count: u64, last: &FailoverStatus) -> fmt::Result {
    let why = match &last.cause {
        FailoverCause::Silent { silent_us, detected_by } => {
            let others: Vec<String> = detected_by.iter().map(ToString::to_string).collect();
            format!("silent for {}, so found orchestrator and node {}", seconds(*silent_us), others.join(", "))
        }
        FailoverCause::GuestDown { cause } => format!("its guest: {}", cause.escape_debug()),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let ago = now.saturating_sub(Duration::from_millis(last.unix_ms));
    let ago_s = Duration::from_secs(ago.as_secs());
    writeln!(f, "failovers: {count}; last {ago_s:?} ago: node {} (life {}), {why}", last.node, last.inc)?;
    let step = |us: Option<u64>, done: u32| match us {
        Some(us) => format!("after {}", seconds(us)),
        None => format!("not yet ({done} of {})", last.groups),
    };
    writeln!(
        f,
        "  {} groups, {} slices: plugged {}, protected again {}",
        last.groups,
        last.slices,
        step(last.plugged_us, last.groups_plugged),
        step(last.protected_us, last.groups_protected)
    )
}

/// Three digits that a person reads.
fn seconds(us: u64) -> String {
    match us {
        0 => "0".into(),
        1..=999_999 => format!("{:.1} ms", us as f64 / 1e3),
        1_000_000..=99_999_999 => format!("{:.1} s", us as f64 / 1e6),
        _ => format!("{} s", us / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use escape_proto::CellStatus;

    fn report(groups: u32) -> StatusReport {
        let node = |id: u16, up| NodeStatus {
            node: id,
            inc: 4,
            host: format!("host-{id}"),
            up,
            linked: up,
            suspected: false,
            leases: 16,
            protected: 30,
            solo: 0,
            standby: 31,
            held_frames: 2,
            held_age_us: 1_500,
        };
        let group = |id: u32| GroupStatus {
            group: id,
            epoch: 2 + u64::from(id % 3),
            owner: 1,
            standby: Some(2),
            mode: Mode::Paired,
            protected: 5,
            solo: 0,
            unprotected_us: 0,
        };
        let last = FailoverStatus {
            node: 3,
            inc: 4,
            unix_ms: 0,
            cause: FailoverCause::Silent { silent_us: 41_000, detected_by: vec![1, 2] },
            groups: 16,
            groups_plugged: 16,
            groups_protected: 3,
            slices: 300,
            plugged_us: Some(20_500),
            protected_us: None,
        };
        let cell = CellStatus {
            edge_linked: true,
            nodes: vec![node(1, true), node(2, true), node(3, false)],
            groups: (0..groups).map(group).collect(),
            failovers: 2,
            last_failover: Some(last),
            ..CellStatus::default()
        };
        StatusReport::new(cell, Duration::from_secs(5))
    }

    #[test]
    fn a_large_cell_still_fits_a_screen() {
        let text = report(1024).to_string();
        assert!(text.lines().count() <= 24, "{text}");
        assert!(text.contains("1024 groups            2-4     1       2  Paired      5120"), "{text}");
    }

    #[test]
    fn what_happened_last_is_told_with_cause_and_duration() {
        let text = report(2).to_string();
        assert!(text.contains("node 3 (life 4), silent for 41.0 ms, so found orchestrator and node 1, 2"), "{text}");
        assert!(text.contains("16 groups, 300 slices: plugged after 20.5 ms, protected again not yet (3 of 16)"));
        assert!(text.contains("     3    4  host-3           dead"), "{text}");
        assert!(text.ends_with("status: well\n"), "{text}");
    }
}
