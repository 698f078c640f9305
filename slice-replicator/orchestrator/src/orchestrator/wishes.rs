//! Operators' wishes to move a session: every node is asked, the session's owner acts, and the operator is told.

use super::node_link::Who;
use super::process::OrchestratorProcess;
use crate::os::now_us;
use escape_engine::Micros;
use escape_engine::orchestrator::{LinkId, Receiver};
use escape_proto::{FromOrchestrator, Member, MoveAnswer, MoveWhat, NodeId, OperatorReply};

/// How long the nodes have.
const ANSWER_LIMIT_US: Micros = 4_000_000;

/// Wishes without an answer: one of each operator's link, so never more than there are such links.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    last: u64,
    open: Vec<Wish>,
}

#[derive(Debug)]
struct Wish {
    request: u64,
    operator: LinkId,
    /// Nodes that have not answered.
    asked: Vec<Member>,
    since: Micros,
}

impl Wishes {
    /// A new wish of this operator, in place of an older one.
    fn add(&mut self, operator: LinkId, asked: Vec<Member>, since: Micros) -> u64 {
        self.open.retain(|wish| wish.operator != operator);
        self.last += 1;
        self.open.push(Wish { request: self.last, operator, asked, since });
        self.last
    }

    /// A node's answer: who is to be told what, if that decides it.
    fn answered(&mut self, from: Member, request: u64, answer: MoveAnswer) -> Option<(LinkId, MoveAnswer)> {
        let at = self.open.iter().position(|wish| wish.request == request)?;
        let wish = self.open.get_mut(at)?;
        wish.asked.retain(|member| *member != from);
        if answer == MoveAnswer::NotHere && !wish.asked.is_empty() {
            return None;
        }
        Some((self.open.swap_remove(at).operator, answer))
    }

    /// Operators that have waited for too long.
    fn late(&mut self, now: Micros) -> Vec<LinkId> {
        let is_late = |wish: &Wish| now.saturating_sub(wish.since) >= ANSWER_LIMIT_US;
        let late = self.open.iter().filter(|wish| is_late(wish)).map(|wish| wish.operator).collect();
        self.open.retain(|wish| !is_late(wish));
        late
    }
}

impl OrchestratorProcess {
    /// Asks all nodes.
    pub(super) fn wish(&mut self, operator: LinkId, what: MoveWhat, to: Option<NodeId>) {
        let member = |who: Who| if let Who::Member(member) = who { Some(member) } else { None };
        let asked: Vec<Member> = self.links.iter_mut().filter_map(|(_, named)| member(named.name.who)).collect();
        if asked.is_empty() {
            return self.tell_operator(operator, MoveAnswer::NotHere);
        }
        let request = self.wishes.add(operator, asked, now_us());
        self.send(Receiver::AllNodes, &FromOrchestrator::MoveAsked { request, what, to });
    }

    /// A node has answered.
    pub(super) fn wish_answered(&mut self, from: Member, request: u64, answer: MoveAnswer) {
        if let Some((operator, answer)) = self.wishes.answered(from, request, answer) {
            self.tell_operator(operator, answer);
        }
    }

    /// Operators are not left waiting.
    pub(super) fn end_late_wishes(&mut self) {
        for operator in self.wishes.late(now_us()) {
            let cause = "the nodes did not answer; whether it moved is not known".to_owned();
            self.tell_operator(operator, MoveAnswer::Refused { cause, again: false });
        }
    }

    fn tell_operator(&mut self, operator: LinkId, answer: MoveAnswer) {
        let Some(place) = self.links.find(|name| name.id == operator) else { return };
        if let Err(error) = self.reply(place, &OperatorReply::Move(answer)) {
            self.drop_link(place, Some(&error));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use escape_proto::Incarnation;

    const fn node(id: u16) -> Member {
        Member { node: NodeId(id), inc: Incarnation(1) }
    }

    #[test]
    fn one_answer_decides_and_nobody_waits_for_ever() {
        let refused = || MoveAnswer::Refused { cause: "busy".to_owned(), again: true };
        let mut wishes = Wishes::default();
        let first = wishes.add(LinkId(7), vec![node(1), node(2)], 0);
        assert_eq!(wishes.answered(node(1), first, MoveAnswer::NotHere), None);
        assert_eq!(wishes.answered(node(2), first, refused()), Some((LinkId(7), refused())));
        assert_eq!(wishes.answered(node(2), first, refused()), None, "it was told");
        let second = wishes.add(LinkId(7), vec![node(1), node(2)], 0);
        assert_eq!(wishes.answered(node(2), second, MoveAnswer::NotHere), None);
        assert_eq!(wishes.answered(node(1), second, MoveAnswer::NotHere), Some((LinkId(7), MoveAnswer::NotHere)));
        wishes.add(LinkId(8), vec![node(1)], 0);
        wishes.add(LinkId(8), vec![node(1)], 10);
        assert_eq!(wishes.late(ANSWER_LIMIT_US), [], "an operator's newer wish is in place of the older");
        assert_eq!(wishes.late(ANSWER_LIMIT_US + 10), [LinkId(8)]);
        assert_eq!(wishes.late(2 * ANSWER_LIMIT_US), []);
    }
}
