//! The orchestrator's links: messages in, messages out, and what happens when one ends.

use super::node_link::{NodeLink, Who};
use super::process::{LINKS_MAX, OrchestratorProcess};
use crate::link_table::PlaceNo;
use crate::os::now_us;
use escape_engine::orchestrator::{LinkId, OrchestratorEvent, Receiver};
use escape_link::LinkError;
use escape_proto::{FromOrchestrator, GroupSlices, JoinReply, Member, Mode, ToOrchestrator};

/// Messages taken from one link per turn, so that one node cannot keep the others waiting.
const MESSAGES_PER_TURN_MAX: usize = 64;

impl OrchestratorProcess {
    /// Open links from the listener.
    pub(super) fn accept(&mut self) {
        while let Some(link) = self.listener.next_link() {
            let Some(who) = link.peer().and_then(Who::of) else { continue };
            self.last_link += 1;
            let name = NodeLink { id: LinkId(self.last_link), who };
            // The same process calling again: its former link is dead, whatever TCP still believes.
            if who == Who::Operator {
                self.limit_operators();
            } else if !matches!(who, Who::Stranger(_))
                && let Some(old) = self.links.find(|known| known.who == who)
            {
                self.drop_link(old, None);
            }
            if self.links.insert(self.poll.registry(), link, name).is_none() {
                tracing::warn!(?who, "refused: {LINKS_MAX} links are open");
                continue;
            }
            if let Some(peer) = who.peer() {
                self.machine_event(OrchestratorEvent::LinkUp(peer));
            }
            // Its first messages may have come with the hello.
            self.more = true;
        }
    }

    pub(super) fn take_messages(&mut self) {
        for place in self.links.taken() {
            if self.links.get_mut(place).is_some_and(|named| named.name.who == Who::Operator) {
                self.answer_operator(place);
                continue;
            }
            for taken in 0..=MESSAGES_PER_TURN_MAX {
                if taken == MESSAGES_PER_TURN_MAX {
                    self.more = true;
                    break;
                }
                let Some(named) = self.links.get_mut(place) else { break };
                let name = named.name;
                match named.link.next_message::<ToOrchestrator>() {
                    Ok(Some(message)) => self.on_message(name, message),
                    Ok(None) => break,
                    Err(error) => {
                        self.drop_link(place, Some(&error));
                        break;
                    }
                }
            }
        }
    }

    fn on_message(&mut self, name: NodeLink, message: ToOrchestrator) {
        let event = match (message, name.who) {
            (ToOrchestrator::Join(request), who) => {
                let Some(node) = who.node() else { return };
                OrchestratorEvent::Join { link: name.id, node, request }
            }
            (ToOrchestrator::GroupCounts(report), Who::Member(from)) => return self.take_group_counts(from, &report),
            (ToOrchestrator::MoveAnswer { request, answer }, Who::Member(from)) => {
                return self.wish_answered(from, request, answer);
            }
            (request, Who::Member(from)) => OrchestratorEvent::Request { from, request },
            // A stranger's only words are a join; the edge has none, an operator's are others.
            (_, Who::Stranger(_) | Who::Edge | Who::Operator) => return,
        };
        self.machine_event(event);
    }

    fn take_group_counts(&mut self, from: Member, report: &[GroupSlices]) {
        let groups = self.machine.store().into_iter().flat_map(|store| store.groups().copied());
        self.figures.report(now_us(), report, groups.filter(|group| group.owner == from && group.mode != Mode::Lost));
    }

    pub(super) fn send(&mut self, to: Receiver, message: &FromOrchestrator) {
        let mut failed = Vec::new();
        for (place, named) in self.links.iter_mut() {
            let wanted = match (to, named.name.who) {
                (Receiver::Link(id), _) => named.name.id == id,
                (Receiver::Node(to), Who::Member(member)) => to == member,
                (Receiver::AllNodes, Who::Member(_)) | (Receiver::Edge, Who::Edge) => true,
                _ => false,
            };
            if !wanted {
                continue;
            }
            if let FromOrchestrator::Join(JoinReply::Joined { me, .. }) = message {
                named.name.who = Who::Member(*me);
            }
            if let Err(error) = named.link.send(message) {
                failed.push((place, error));
            }
        }
        // A peer that does not take its records starts over with a new link and all of them.
        for (place, error) in failed {
            self.drop_link_later(place, &error);
        }
    }

    /// Ends a link while commands are being carried out: [`Self::flush`] finds it dead and tells the machine.
    fn drop_link_later(&mut self, place: PlaceNo, error: &LinkError) {
        tracing::warn!("{error}");
        if let Some(named) = self.links.get_mut(place) {
            named.link.close();
        }
    }

    pub(super) fn drop_link(&mut self, place: PlaceNo, error: Option<&LinkError>) {
        if let Some(error) = error {
            tracing::info!("{error}");
        }
        let Some(gone) = self.links.remove(self.poll.registry(), place) else { return };
        if let Some(peer) = gone.name.who.peer() {
            self.machine_event(OrchestratorEvent::LinkDown(peer));
        }
    }

    /// Everything that was staged in this turn.
    pub(super) fn flush(&mut self) {
        let mut failed = Vec::new();
        for (place, named) in self.links.iter_mut() {
            match named.link.flush() {
                Err(error) => failed.push((place, Some(error))),
                Ok(()) if named.link.is_dead() => failed.push((place, None)),
                Ok(()) => {}
            }
        }
        for (place, error) in failed {
            self.drop_link(place, error.as_ref());
        }
    }
}
