//! T7: after a pause, or a refusal that names a higher epoch, an owner asks before it releases anything.

use super::command::Command;
use super::engine::NodeEngine;
use super::owned_group::{OwnedGroup, Question};
use crate::Micros;
use escape_proto::{Epoch, GroupId, Member};

impl NodeEngine {
    /// After a pause longer than the limit: ask before anything is released (T7).
    pub(super) fn after_pause(&mut self, now: Micros, out: &mut Vec<Command>) {
        let groups: Vec<GroupId> = self.owned.keys().copied().collect();
        for group in groups {
            self.ask(now, group, false, out);
        }
    }

    /// Nothing of the group is released until its standby has confirmed it; the store, if there is no standby, or it cannot
    /// be reached, or (in `doubt`) it is the standby that knows better.
    pub(super) fn ask(&mut self, now: Micros, group: GroupId, doubt: bool, out: &mut Vec<Command>) {
        let number = self.number();
        let Some(g) = self.owned.get_mut(&group) else { return };
        let of_standby = !doubt && g.record.standby.is_some() && g.standby_linked;
        let question = Question { of_standby, doubt, number, sent_at: now };
        g.question = Some(question);
        put_question(g, question, out);
    }

    /// The standby knows of another owner or epoch: ask the store, unless that is under way.
    pub(super) fn doubt(&mut self, now: Micros, group: GroupId, out: &mut Vec<Command>) {
        if self.owned.get(&group).is_some_and(|g| g.question.is_none_or(|q| q.of_standby)) {
            self.ask(now, group, true, out);
        }
    }

    /// The standby can be reached again: it may answer while the store cannot.
    pub(super) fn ask_standby_instead(&mut self, now: Micros, group: GroupId, out: &mut Vec<Command>) {
        if self.owned.get(&group).is_some_and(|g| g.question.is_some_and(|q| !q.of_standby && !q.doubt)) {
            self.ask(now, group, false, out);
        }
    }

    /// The standby's answer.
    pub(super) fn probe_answered(
        &mut self,
        now: Micros,
        from: Member,
        (group, epoch): (GroupId, Epoch),
        nonce: u64,
        standing_by: bool,
        out: &mut Vec<Command>,
    ) {
        let Some(g) = self.owned.get(&group) else { return };
        if g.candidate() == Some(from) {
            return self.candidate_answered(now, group, epoch, nonce, out);
        }
        let asked = g.question.is_some_and(|q| q.of_standby && q.number == nonce);
        if !asked || g.record.standby != Some(from) {
            return;
        }
        if epoch == g.record.epoch && standing_by {
            self.resume(now, group, out);
        } else if epoch > g.record.epoch {
            self.doubt(now, group, out);
        }
    }

    /// The answer is that all is as it was. So what was acknowledged meanwhile was acknowledged by a standby that still
    /// stands by, and may leave; had the answer been another, none of it would have left.
    pub(super) fn resume(&mut self, now: Micros, group: GroupId, out: &mut Vec<Command>) {
        let Some(g) = self.owned.get_mut(&group) else { return };
        g.question = None;
        self.settle_all(group, out);
        self.sync_progress(now, group, out);
    }

    /// Repeats an unanswered question.
    pub(super) fn repeat_question(&mut self, now: Micros, group: GroupId, out: &mut Vec<Command>) {
        let (probe_us, read_us) = (self.config.probe_resend_us, self.config.cas_resend_us);
        let Some(g) = self.owned.get_mut(&group) else { return };
        let Some(mut question) = g.question else { return };
        if question.of_standby && !g.standby_linked {
            return self.ask(now, group, false, out);
        }
        let interval = if question.of_standby { probe_us } else { read_us };
        if now.saturating_sub(question.sent_at) >= interval {
            question.sent_at = now;
            g.question = Some(question);
            put_question(g, question, out);
        }
    }
}

fn put_question(g: &OwnedGroup, question: Question, out: &mut Vec<Command>) {
    let (group, epoch) = (g.record.group, g.record.epoch);
    out.push(match g.record.standby.filter(|_| question.of_standby) {
        Some(to) => Command::SendProbe { to, group, epoch, nonce: question.number },
        None => Command::Read { attempt: question.number, group },
    });
}
