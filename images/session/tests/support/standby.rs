//! Commits: what is captured, when the standby has it, and what leaves then.

use super::arena::Image;
use super::guest::flow_of;
use super::oracle::Committed;
use super::segment::before;
use super::world::{Survives, World};
use escape_abi::message::Flow;
use escape_abi::meta::{CONNECTIONS_MAX, ConnectionNumbers, connection_bit, meta_flag};
use escape_abi::{GuestMessage, HostMessage, SlotMeta};

/// A commit on its way to the standby and back.
pub struct Commit {
    /// When its acknowledgement is here.
    at: i64,
    frames: Vec<Vec<u8>>,
    images: Vec<(u32, Image)>,
    closed: Vec<(u32, u64)>,
    /// Connections that ended while their slices go on.
    ended: Vec<(u32, u64, Flow)>,
    /// Where the slices of its frames are when it is acknowledged.
    committed: Vec<(Flow, Committed)>,
    /// Inbound frames, counted from the start, that its images know.
    knows: u64,
}

impl World {
    /// What the VMM does: takes up messages, captures every slice that has output or changed.
    pub(super) fn capture(&mut self) -> Commit {
        let (frames, messages) = self.guest.take();
        let (at, knows) = (self.now + self.commit_delay, self.frames_in);
        let mut commit = Commit { at, frames, images: vec![], closed: vec![], ended: vec![], committed: vec![], knows };
        let mut slots = Vec::new();
        for m in &messages {
            match *m {
                GuestMessage::Bind { slot, incarnation, flow, place, .. } => {
                    self.bound.insert(flow, (slot, incarnation));
                    self.places.insert((slot, incarnation, place as usize), flow);
                }
                GuestMessage::Changed { slot } => slots.push(slot),
                GuestMessage::Close { slot, incarnation } => {
                    let meta = self.guest.control.meta(slot);
                    assert_eq!((meta.flags, meta.incarnation), (meta_flag::CLOSED, incarnation));
                    commit.closed.push((slot, incarnation));
                    commit.committed.extend(self.numbers(slot, &meta));
                }
                _ => {}
            }
        }
        self.messages.extend(messages);
        for frame in &commit.frames {
            // Frames of a slice that ended in this turn belong to its CLOSE.
            if let Some((slot, _)) = flow_of(frame).and_then(|f| self.bound.get(&f)) {
                slots.push(*slot);
            }
        }
        slots.sort_unstable();
        slots.dedup();
        slots.retain(|slot| commit.closed.iter().all(|c| c.0 != *slot));
        for slot in slots {
            if self.bound.iter().all(|b| b.1.0 != slot) {
                continue;
            }
            let image = self.arena.capture(&self.guest.control, slot);
            self.captures += 1;
            self.captured_bytes += image.bytes() as u64;
            commit.committed.extend(self.numbers(slot, &image.meta));
            commit.ended.extend(self.ended_flows(slot, &image.meta).map(|f| (slot, image.meta.incarnation, f)));
            commit.images.push((slot, image));
        }
        commit
    }

    fn flows_with(&self, slot: u32, meta: &SlotMeta, bit: fn(usize) -> u32) -> impl Iterator<Item = (usize, Flow)> {
        let (incarnation, bits) = (meta.incarnation, meta.connections);
        let places = (0..CONNECTIONS_MAX).filter(move |place| bits & bit(*place) != 0);
        places.map(move |place| (place, self.places[&(slot, incarnation, place)]))
    }

    /// Flows of connections that live in this state of a slice.
    pub(super) fn open_flows(&self, slot: u32, meta: &SlotMeta) -> impl Iterator<Item = Flow> {
        let ended = meta.connections;
        let present = self.flows_with(slot, meta, connection_bit::present);
        present.filter(move |(place, _)| ended & connection_bit::ended(*place) == 0).map(|(_, flow)| flow)
    }

    /// Flows of connections that have ended in it.
    pub(super) fn ended_flows(&self, slot: u32, meta: &SlotMeta) -> impl Iterator<Item = Flow> {
        self.flows_with(slot, meta, connection_bit::ended).map(|(_, flow)| flow)
    }

    fn numbers(&self, slot: u32, meta: &SlotMeta) -> Vec<(Flow, Committed)> {
        let incarnation = meta.incarnation;
        let committed = |place: usize| {
            let ConnectionNumbers { rcv_nxt, snd_nxt } = meta.numbers[place];
            Committed { incarnation, rcv_nxt, snd_nxt }
        };
        let present = self.flows_with(slot, meta, connection_bit::present);
        present.map(|(place, flow)| (flow, committed(place))).collect()
    }

    /// The standby has the commit; returns the frames that may leave.
    pub(super) fn apply(&mut self, commit: Commit) -> Vec<Vec<u8>> {
        for (flow, now) in commit.committed {
            if let Some(last) = self.committed.insert(flow, now).filter(|l| l.incarnation == now.incarnation) {
                let back = before(now.rcv_nxt, last.rcv_nxt) || before(now.snd_nxt, last.snd_nxt);
                assert!(!back, "{flow:?}: a commit goes back from {last:?} to {now:?}");
            }
        }
        self.images.extend(commit.images);
        for (slot, incarnation) in commit.closed {
            self.images.remove(&slot);
            self.bound.retain(|_, b| *b != (slot, incarnation));
            self.guest.server.on_message(HostMessage::SlotFree { slot, incarnation });
        }
        for (slot, incarnation, flow) in commit.ended {
            if self.bound.remove(&flow).is_some() {
                self.guest.server.on_message(HostMessage::ConnectionFree { slot, incarnation, flow });
            }
        }
        while self.mirror.front().is_some_and(|(n, _)| *n <= commit.knows) {
            self.mirror.pop_front();
        }
        commit.frames
    }

    /// Captures what the last turn left, unless the next commit is not due yet.
    pub(super) fn commit(&mut self) {
        if self.now >= self.next_commit && self.commit_waits() {
            self.next_commit = self.now + self.commit_every;
            let commit = self.capture();
            self.pending.push_back(commit);
        }
        self.acknowledge();
    }

    /// Commits whose acknowledgement is due: their output leaves.
    pub(super) fn acknowledge(&mut self) {
        while self.pending.front().is_some_and(|c| c.at <= self.now) {
            let commit = self.pending.pop_front().unwrap();
            for frame in self.apply(commit) {
                self.release(frame);
            }
        }
    }

    /// The guest has said or sent something that no commit knows.
    fn commit_waits(&mut self) -> bool {
        let host = self.guest.server.host();
        !host.frames.is_empty() || !host.messages.is_empty()
    }

    /// When the next commit or acknowledgement is due.
    pub(super) fn commit_deadline(&mut self) -> Option<i64> {
        let commit = self.commit_waits().then_some(self.next_commit.max(self.now));
        [commit, self.pending.front().map(|c| c.at)].into_iter().flatten().min()
    }

    /// The owner dies: what of its commits arrives all the same, and what of their output.
    pub(super) fn die(&mut self, survives: Survives) {
        if survives != Survives::Nothing {
            let commit = self.capture();
            self.pending.push_back(commit);
        }
        let mut pending = std::mem::take(&mut self.pending);
        let applied = match survives {
            Survives::Nothing => 0,
            Survives::CommitAndSomeFrames if pending.len() > 1 => self.rng.below(1 + pending.len() as u64) as usize,
            _ => pending.len(),
        };
        for commit in pending.drain(..applied) {
            for frame in self.apply(commit) {
                let leaves = match survives {
                    Survives::Nothing | Survives::Commit => false,
                    Survives::CommitAndSomeFrames => self.rng.chance(50),
                    Survives::Everything => true,
                };
                if leaves {
                    self.release(frame);
                }
            }
        }
        self.guest.take();
    }
}
