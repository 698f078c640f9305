//! The failovers that this orchestrator saw.

use escape_engine::Micros;
use escape_engine::orchestrator::Note;
use escape_proto::{Epoch, FailoverCause, FailoverStatus, GroupId, Member, Milestone};
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

/// A group on its way to its new owner.
#[derive(Clone, Copy, Debug)]
struct Handover {
    epoch: Epoch,
    plugged: Option<Micros>,
    protected: Option<Micros>,
}

/// One failover: from the decision on. Groups that are handed over before the next decision are counted here.
#[derive(Clone, Debug)]
struct Failover {
    member: Member,
    cause: FailoverCause,
    begun: Micros,
    unix_ms: u64,
    groups: BTreeMap<GroupId, Handover>,
    slices: u64,
}

/// How many there were, and the last of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Failovers {
    count: u64,
    last: Option<Failover>,
}

impl Failovers {
    /// How many.
    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    /// The machine noticed something. Times are this process's own: those of nodes are other clocks.
    pub(super) fn note(&mut self, now: Micros, note: &Note) {
        match note {
            Note::DecidedDead { member, silent_us, detected_by } => {
                let detected_by = detected_by.iter().map(|node| node.0).collect();
                self.begin(now, *member, FailoverCause::Silent { silent_us: *silent_us, detected_by });
            }
            Note::Milestone { from, what: Milestone::GuestDown(cause), .. } => {
                self.begin(now, *from, FailoverCause::GuestDown { cause: cause.clone() });
            }
            Note::Handed { group, epoch, .. } => {
                if let Some(last) = &mut self.last {
                    last.groups.insert(*group, Handover { epoch: *epoch, plugged: None, protected: None });
                }
            }
            Note::Milestone { what: Milestone::LastPlugged(group, epoch, slices), .. } => {
                let Some(last) = &mut self.last else { return };
                if let Some(handover) = last.groups.get_mut(group).filter(|h| h.epoch <= *epoch)
                    && handover.plugged.is_none()
                {
                    handover.plugged = Some(now);
                    last.slices += u64::from(*slices);
                }
            }
            Note::Milestone { what: Milestone::Protected(group, epoch, _), .. } => {
                let handover = self.last.as_mut().and_then(|last| last.groups.get_mut(group));
                if let Some(handover) = handover.filter(|h| h.epoch <= *epoch) {
                    handover.protected.get_or_insert(now);
                }
            }
            _ => {}
        }
    }

    fn begin(&mut self, now: Micros, member: Member, cause: FailoverCause) {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_ms = u64::try_from(unix.as_millis()).unwrap_or(u64::MAX);
        self.count += 1;
        self.last = Some(Failover { member, cause, begun: now, unix_ms, groups: BTreeMap::new(), slices: 0 });
    }

    /// The last one.
    pub(super) fn last(&self) -> Option<FailoverStatus> {
        let last = self.last.as_ref()?;
        let (plugged, plugged_us) = last.steps(|handover| handover.plugged);
        let (protected, protected_us) = last.steps(|handover| handover.protected);
        Some(FailoverStatus {
            node: last.member.node.0,
            inc: last.member.inc.0,
            unix_ms: last.unix_ms,
            cause: last.cause.clone(),
            groups: u32::try_from(last.groups.len()).unwrap_or(u32::MAX),
            groups_plugged: plugged,
            groups_protected: protected,
            slices: last.slices,
            plugged_us,
            protected_us,
        })
    }
}

impl Failover {
    /// How many groups have reached a step, and if all have, how long the last one took.
    fn steps(&self, at: impl Fn(&Handover) -> Option<Micros>) -> (u32, Option<Micros>) {
        let times: Vec<Micros> = self.groups.values().filter_map(at).collect();
        let all = times.len() == self.groups.len();
        let longest = times.iter().max().filter(|_| all).map(|last| last.saturating_sub(self.begun));
        (u32::try_from(times.len()).unwrap_or(u32::MAX), longest)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use escape_proto::{Incarnation, NodeId};

    #[test]
    fn a_failover_lasts_until_its_last_group() {
        let member = |node| Member { node: NodeId(node), inc: Incarnation(2) };
        let (one, two) = (GroupId(1), GroupId(2));
        let mut seen = Failovers::default();
        assert_eq!(seen.last(), None);
        let mut note = |now, note: Note| {
            seen.note(now, &note);
            seen.last().unwrap()
        };
        let milestone = |what| Note::Milestone { from: member(2), at_us: 999_999, what };
        note(100, Note::DecidedDead { member: member(1), silent_us: 40_000, detected_by: vec![NodeId(2)] });
        note(110, Note::Handed { group: one, epoch: Epoch(5), to: member(2) });
        note(110, Note::Handed { group: two, epoch: Epoch(7), to: member(3) });
        let half = note(150, milestone(Milestone::LastPlugged(one, Epoch(5), 30)));
        assert_eq!((half.groups, half.groups_plugged, half.plugged_us), (2, 1, None));
        let stale = note(160, milestone(Milestone::LastPlugged(two, Epoch(6), 1)));
        assert_eq!(stale.groups_plugged, 1, "of an earlier epoch");
        let whole = note(180, milestone(Milestone::LastPlugged(two, Epoch(7), 12)));
        assert_eq!((whole.slices, whole.plugged_us, whole.protected_us), (42, Some(80), None));
        note(300, milestone(Milestone::Protected(one, Epoch(6), 30)));
        let end = note(350, milestone(Milestone::Protected(two, Epoch(8), 12)));
        assert_eq!((end.node, end.groups_protected, end.protected_us), (1, 2, Some(250)));
        assert_eq!(end.cause, FailoverCause::Silent { silent_us: 40_000, detected_by: vec![2] });
        let next = note(400, milestone(Milestone::GuestDown("panic".into())));
        assert_eq!((next.node, next.groups, next.plugged_us), (2, 0, None));
        assert_eq!(seen.count(), 2);
    }
}
