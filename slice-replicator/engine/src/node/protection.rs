//! T3 (a new standby), T4 (Solo) and the compare-and-swaps that make them (R1–R5).

use super::command::Command;
use super::engine::NodeEngine;
use super::owned_group::{Change, OwnedGroup, PendingCas, Stage};
use super::owned_slice::Role;
use super::track::{CloseStep, Track};
use crate::{Micros, Mutant};
use escape_proto::{BodyKind, CasOutcome, Epoch, GroupId, GroupRecord, Member, Mode};

/// So many times the calm do new standbys wait for plugs at the most: a guest that does not answer must not keep other
/// groups on one copy.
const PLUG_PATIENCE_CALMS: Micros = 5;

impl NodeEngine {
    /// What time and circumstances ask for, group by group.
    pub(super) fn drive(&mut self, now: Micros, out: &mut Vec<Command>) {
        let groups: Vec<GroupId> = self.owned.keys().copied().collect();
        for group in groups {
            self.repeat(now, group, out);
            self.drive_group(now, group, out);
        }
        self.settle_crowded(out);
        self.report_guest(now, out);
        self.tell_quarantine(now, out);
        self.plug_next_suspect(now, out);
    }

    fn drive_group(&mut self, now: Micros, group: GroupId, out: &mut Vec<Command>) {
        let Some(g) = self.owned.get(&group) else { return };
        if g.cas.is_some() || g.retry_at.is_some_and(|at| now < at) {
            return;
        }
        let (record, asked) = (g.record, g.question.is_some());
        if record.standby.is_some_and(|s| self.view.is_over(s)) {
            if self.config.broken != Some(Mutant::SoloWithoutCas) {
                self.hold_for_solo(now, group, out);
            }
            return;
        }
        if g.restart {
            if self.guest_up && record.mode == Mode::Solo {
                self.hold_for_solo(now, group, out);
            }
            return;
        }
        if let Some(candidate) = g.candidate() {
            // Full copies that wait for their share of the link are not its silence.
            let heard_at = g.candidate_heard_at.max(self.bulk_from);
            let stalled = now.saturating_sub(heard_at) >= self.config.sync_stall_us;
            if stalled && let Some(g) = self.owned.get_mut(&group) {
                g.avoid = Some((candidate, now + 10 * self.config.sync_stall_us));
            }
            if stalled || self.view.is_over(candidate) {
                self.abandon_sync(group, out);
            }
        }
        let Some(g) = self.owned.get(&group) else { return };
        let lost_for = g.standby_lost_at.map_or(0, |at| now.saturating_sub(at));
        let wanted = record.mode == Mode::Solo || lost_for >= self.config.replace_after_us;
        if g.change != Change::None {
            return self.sync_progress(now, group, out);
        }
        // A group that slices are leaving has no candidate: it would have images of them too.
        if asked || !self.guest_up || g.stage != Stage::Running || g.moving.is_some() {
            return;
        }
        if wanted {
            self.begin_sync(now, group, out);
        } else if g.tainted.iter().any(|m| !self.view.is_over(*m)) {
            self.refresh_epoch(now, group, out);
        }
    }

    /// A new epoch with the same owner and standby: whoever was a candidate in the old one forgets what it got (R6).
    fn refresh_epoch(&mut self, now: Micros, group: GroupId, out: &mut Vec<Command>) {
        let Some(g) = self.owned.get_mut(&group) else { return };
        let to = match g.record.standby {
            Some(standby) => g.record.paired_with(standby),
            None => g.record.solo(),
        };
        g.change = Change::Refreshing;
        self.issue_cas(now, group, to, out);
    }

    /// Sends again what has had no answer for too long.
    fn repeat(&mut self, now: Micros, group: GroupId, out: &mut Vec<Command>) {
        self.repeat_question(now, group, out);
        self.repeat_move(now, group, out);
        let (cas_us, flip_us) = (self.config.cas_resend_us, self.config.flip_resend_us);
        let Some(g) = self.owned.get_mut(&group) else { return };
        if let Some(cas) = g.cas.as_mut()
            && now.saturating_sub(cas.sent_at) >= cas_us
        {
            cas.sent_at = now;
            out.push(Command::Cas { attempt: cas.attempt, to: cas.to });
        }
        if !g.flipped
            && let Some(asked_at) = g.flip_asked_at.as_mut()
            && now.saturating_sub(*asked_at) >= flip_us
        {
            *asked_at = now;
            out.push(Command::RequestFlip { group, epoch: g.record.epoch });
        }
        for role in [Role::Standby, Role::Candidate] {
            let fulls_max = self.config.fulls_max;
            let due = self.owned.get_mut(&group).is_some_and(|g| {
                let (members, pump) = (g.members.len(), *g.pump_mut(role));
                // Without a pause it goes on by acknowledgements, unless the slice that was on its way is gone.
                pump.resume_at.map_or(pump.cursor < members && pump.in_flight < fulls_max, |at| now >= at)
            });
            if due {
                self.pump(now, group, role, out);
            }
        }
    }

    /// T3, first step: the candidate gets the stream and full copies.
    fn begin_sync(&mut self, now: Micros, group: GroupId, out: &mut Vec<Command>) {
        if now < self.calm_until || (now < self.calm_until + PLUG_PATIENCE_CALMS * self.config.calm_us && self.plugs())
        {
            return;
        }
        let syncing = self.owned.values().filter(|g| matches!(g.change, Change::Syncing(_) | Change::Draining(..)));
        if syncing.count() >= self.config.syncs_max {
            return;
        }
        let Some(candidate) = self.choose_candidate(now, group) else { return };
        let Some(g) = self.owned.get_mut(&group) else { return };
        if g.tainted.contains(&candidate) {
            // It may hold images of slices that were closed since.
            return self.refresh_epoch(now, group, out);
        }
        g.change = Change::Syncing(candidate);
        g.forget_candidate();
        g.candidate_linked = true;
        g.candidate_heard_at = now;
        for slice in self.members(group) {
            if let Some(e) = self.ledger.get_mut(slice) {
                e.candidate = Track::default();
            }
        }
        self.pump(now, group, Role::Candidate, out);
        if self.config.broken == Some(Mutant::CasBeforeSync) {
            return self.record_candidate(now, group, candidate, out);
        }
        self.sync_progress(now, group, out);
    }

    /// Slices of some group wait for their plug: copies for standbys would take the time that their clients wait.
    fn plugs(&self) -> bool {
        self.owned.values().any(|g| matches!(g.stage, Stage::Closing | Stage::Plugging(_)))
    }

    /// Up, on another host, linked; the one that stands by for the fewest groups of this node, then of all. Ties are
    /// broken by distance, turned by group, so that a node's groups spread over all others.
    fn choose_candidate(&self, now: Micros, group: GroupId) -> Option<Member> {
        let me = self.me?;
        let g = self.owned.get(&group)?;
        let avoided = |m: Member| g.avoid.is_some_and(|(a, until)| a == m && now < until);
        let fit = self.view.nodes().filter(|n| {
            self.view.is_up(n.member)
                && n.member.node != me.node
                && n.host != self.config.host
                && self.links.get(&n.member.node) == Some(&n.member.inc)
                && g.record.standby != Some(n.member)
                && !avoided(n.member)
        });
        let key = |m: Member| {
            let (mine, all) = self.view.standby_load(m, me);
            let coming = self.owned.values().filter(|g| g.candidate() == Some(m)).count();
            let distance = (u32::from(m.node.0) + 32 - u32::from(me.node.0) % 32 + group.0 % 32) % 32;
            (mine + coming, all + coming, distance, m)
        };
        fit.map(|n| n.member).min_by_key(|m| key(*m))
    }

    /// Sends full copies to a receiver, at most `fulls_max` at a time.
    pub(super) fn pump(&mut self, now: Micros, group: GroupId, role: Role, out: &mut Vec<Command>) {
        let max = self.config.fulls_max;
        let Some(g) = self.owned.get_mut(&group) else { return };
        let Some(to) = g.receiver(role) else { return };
        let epoch = g.record.epoch;
        let pump = g.pump_mut(role);
        if role == Role::Candidate && now < self.bulk_from {
            pump.resume_at = pump.resume_at.max(Some(self.bulk_from));
        }
        if pump.resume_at.is_some_and(|at| now < at) {
            return;
        }
        pump.resume_at = None;
        let (mut cursor, mut in_flight) = (pump.cursor, pump.in_flight);
        while in_flight < max
            && let Some(slice) = g.members.get(cursor)
        {
            cursor += 1;
            let Some(e) = self.ledger.get_mut(*slice).filter(|e| !e.closed) else { continue };
            let (last, closing) = (e.last, e.closing);
            let t = e.track_mut(role);
            if t.needs_full(last) {
                t.sent = last.0;
                t.touched = true;
                t.full = Some(last.0);
                t.gap = false;
                t.close = if closing { CloseStep::FullSent } else { CloseStep::Plain };
                in_flight += 1;
                out.push(Command::SendFull { to, head: e.head(epoch, BodyKind::Full) });
            }
        }
        let pump = g.pump_mut(role);
        (pump.cursor, pump.in_flight) = (cursor, in_flight);
    }

    /// Goes on with a sync as far as it is.
    pub(super) fn sync_progress(&mut self, now: Micros, group: GroupId, out: &mut Vec<Command>) {
        let Some(g) = self.owned.get_mut(&group) else { return };
        let pump = g.candidate_pump;
        if let Change::Syncing(candidate) = g.change
            && pump.in_flight == 0
            && pump.cursor >= g.members.len()
        {
            self.drain_to(now, group, candidate, out);
        }
        if let Some(Change::Draining(candidate, 0)) = self.owned.get(&group).map(|g| g.change)
            && self.is_current(now, group, candidate, out)
        {
            self.record_candidate(now, group, candidate, out);
        }
    }

    /// Has the candidate seen the record of this epoch? An acknowledgement says so. A group without slices has none, and
    /// the candidate may have missed the record that made it free the images of closed slices: so it is asked.
    fn is_current(&mut self, now: Micros, group: GroupId, candidate: Member, out: &mut Vec<Command>) -> bool {
        let resend_us = self.config.probe_resend_us;
        let Some(g) = self.owned.get(&group) else { return false };
        let current = g.candidate_current;
        if current || g.candidate_asked.is_some_and(|(_, at)| now.saturating_sub(at) < resend_us) {
            return current;
        }
        let nonce = self.number();
        if let Some(g) = self.owned.get_mut(&group) {
            g.candidate_asked = Some((nonce, now));
            out.push(Command::SendProbe { to: candidate, group, epoch: g.record.epoch, nonce });
        }
        false
    }

    /// A candidate answered a probe.
    pub(super) fn candidate_answered(
        &mut self,
        now: Micros,
        group: GroupId,
        epoch: Epoch,
        nonce: u64,
        out: &mut Vec<Command>,
    ) {
        let Some(g) = self.owned.get_mut(&group) else { return };
        if epoch == g.record.epoch && g.candidate_asked.is_some_and(|(asked, _)| asked == nonce) {
            g.candidate_current = true;
            g.candidate_heard_at = now;
            self.sync_progress(now, group, out);
        }
    }

    /// All full copies are there: from now on releases need the candidate too, and what was released without it must
    /// have been acknowledged by it before the record may name it (finding 2).
    fn drain_to(&mut self, now: Micros, group: GroupId, candidate: Member, out: &mut Vec<Command>) {
        let members = self.members(group);
        let missed = members.iter().filter_map(|s| self.ledger.get(*s)).any(|e| e.candidate.needs_full(e.last));
        if missed {
            if let Some(g) = self.owned.get_mut(&group) {
                g.candidate_pump.cursor = 0;
            }
            return self.pump(now, group, Role::Candidate, out);
        }
        let mut pending = 0;
        for slice in members {
            let Some(e) = self.ledger.get_mut(slice) else { continue };
            if e.candidate.acked < e.last.0 {
                e.candidate.goal = e.last.0;
                pending += 1;
            }
        }
        if let Some(g) = self.owned.get_mut(&group) {
            g.change = Change::Draining(candidate, pending);
        }
    }

    /// T3, last step: the record. DUAL until the outcome is known (R1).
    fn record_candidate(&mut self, now: Micros, group: GroupId, candidate: Member, out: &mut Vec<Command>) {
        let Some(g) = self.owned.get_mut(&group) else { return };
        g.change = Change::Recording(candidate);
        let to = g.record.paired_with(candidate);
        self.issue_cas(now, group, to, out);
    }

    /// T4 and T11: nothing leaves from here until the outcome (R3). The own image has all that was captured.
    fn hold_for_solo(&mut self, now: Micros, group: GroupId, out: &mut Vec<Command>) {
        self.abandon_sync(group, out);
        self.calm_until = now + self.config.calm_us;
        let Some(g) = self.owned.get_mut(&group) else { return };
        g.change = Change::Hold;
        let to = g.record.solo();
        self.issue_cas(now, group, to, out);
    }

    fn issue_cas(&mut self, now: Micros, group: GroupId, to: GroupRecord, out: &mut Vec<Command>) {
        let attempt = self.number();
        if let Some(g) = self.owned.get_mut(&group) {
            g.cas = Some(PendingCas { attempt, to, sent_at: now });
            out.push(Command::Cas { attempt, to });
        }
    }

    /// The orchestrator answered a compare-and-swap or a read.
    pub(super) fn outcome(
        &mut self,
        now: Micros,
        attempt: u64,
        group: GroupId,
        outcome: CasOutcome,
        out: &mut Vec<Command>,
    ) {
        let answers = self.owned.get_mut(&group).is_some_and(|g| {
            let answers = g.question.is_some_and(|q| !q.of_standby && q.number == attempt);
            if answers {
                g.question = None;
            }
            answers
        });
        let (CasOutcome::Applied(record) | CasOutcome::Refused(record) | CasOutcome::Is(record)) = outcome else {
            return;
        };
        if record.group != group {
            return;
        }
        self.adopt(now, record, out);
        if matches!(outcome, CasOutcome::Refused(_)) {
            self.cas_refused(now, group, attempt, out);
        }
        if answers {
            self.resume(now, group, out);
        }
    }

    /// The change was not made and will not be: back to what the record says (R5).
    fn cas_refused(&mut self, now: Micros, group: GroupId, attempt: u64, out: &mut Vec<Command>) {
        let later = now + self.config.cas_resend_us;
        let Some(g) = self.owned.get_mut(&group) else { return };
        if g.cas.is_none_or(|c| c.attempt != attempt) {
            return;
        }
        g.cas = None;
        g.retry_at = Some(later);
        match g.change {
            Change::Recording(_) => self.abandon_sync(group, out),
            _ => g.change = Change::None,
        }
        self.settle_all(group, out);
    }

    /// Gives a sync up. Its receiver may keep images of this epoch: it is not asked again before the next one.
    pub(super) fn abandon_sync(&mut self, group: GroupId, out: &mut Vec<Command>) {
        let Some(g) = self.owned.get_mut(&group) else { return };
        let Some(candidate) = g.candidate() else { return };
        if g.cas.is_some() {
            // R1: DUAL ends only by the outcome.
            return;
        }
        g.change = Change::None;
        g.forget_candidate();
        if !g.tainted.contains(&candidate) {
            g.tainted.push(candidate);
        }
        for slice in self.members(group) {
            let Some(e) = self.ledger.get_mut(slice) else { continue };
            e.candidate = Track::default();
            if e.closed {
                self.remove_slice(slice);
            }
        }
        // What only the candidate held back may leave.
        self.settle_all(group, out);
    }

    /// T11: asks for the Paired groups to be taken over while the guest cannot run them.
    pub(super) fn report_guest(&mut self, now: Micros, out: &mut Vec<Command>) {
        let stranded = |g: &OwnedGroup| {
            g.restart && g.record.standby.is_some_and(|s| g.record.mode == Mode::Paired && !self.view.is_over(s))
        };
        let due = self.guest_reported_at.is_none_or(|at| now.saturating_sub(at) >= self.config.report_resend_us);
        if due && (self.has_open_crash() || self.owned.values().any(stranded)) {
            self.guest_reported_at = Some(now);
            self.tell_crash(out);
        }
    }
}
