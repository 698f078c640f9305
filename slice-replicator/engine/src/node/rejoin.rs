//! T1 and T7: from one life to the next. The images outlive it, for the groups that the next life claims; nothing else.

use super::command::Command;
use super::engine::NodeEngine;
use super::event::Event;
use super::image::Image;
use super::owned_slice::OwnedSlice;
use super::slice_table::SliceTable;
use super::view::RecordsView;
use escape_proto::{Epoch, GroupId, Member, MoveRecord, SliceId};

impl NodeEngine {
    /// A new life. Of the former one it keeps the images of the groups that it goes on with.
    pub(super) fn joined(&mut self, me: Member, claimed: &[GroupId], moves: &[MoveRecord], out: &mut Vec<Command>) {
        if me.node != self.config.me || self.me.is_some_and(|old| old.inc >= me.inc) {
            return;
        }
        if self.me.is_some() {
            self.step_out(out);
        }
        // Before the groups are looked at: an image may be of another one than this process remembers (T9).
        moves.iter().for_each(|record| self.put_in_order(record, out));
        let dropped: Vec<(SliceId, bool)> =
            self.images.iter().filter(|(_, i)| !claimed.contains(&i.group)).map(|(s, i)| (s, i.closed)).collect();
        for (slice, closed) in dropped {
            self.images.remove(slice);
            if !closed {
                out.push(Command::FreeImage { slice });
            }
        }
        self.me = Some(me);
    }

    /// Not in the cell: bodies are dropped, links and the guest are kept track of, nothing else counts.
    pub(super) fn before_join(&mut self, event: Event, out: &mut Vec<Command>) {
        match event {
            Event::Checkpoint { body, .. } => out.push(Command::DropBody { body }),
            Event::GuestReady => self.guest_up = true,
            Event::GuestDown { .. } => self.guest_up = false,
            Event::PeerUp(m) => {
                self.links.insert(m.node, m.inc);
            }
            Event::PeerDown(m) if self.links.get(&m.node) == Some(&m.inc) => {
                self.links.remove(&m.node);
            }
            _ => {}
        }
    }

    /// This life is over: nobody until T1 (R8). It acknowledges and releases nothing from here on, so what its images are
    /// now is all that anybody can have relied on; own slices are images like the others.
    pub(super) fn step_out(&mut self, out: &mut Vec<Command>) {
        for group in self.waiting.groups() {
            out.extend(self.waiting.leave(group).into_iter().map(|w| Command::DropBody { body: w.body }));
        }
        let own = std::mem::replace(&mut self.ledger, SliceTable::new());
        for (slice, entry) in own.iter().filter(|(_, e)| !e.closed && e.last.0 != 0) {
            if self.images.insert(slice, image_of(entry)).is_err() {
                out.push(Command::FreeImage { slice });
            }
        }
        self.me = None;
        self.view = RecordsView::default();
        self.owned.clear();
        self.applying.clear();
        self.guest_reported_at = None;
        self.forget_crash();
    }
}

const fn image_of(entry: &OwnedSlice) -> Image {
    Image {
        group: entry.group,
        epoch: Epoch(0),
        no: entry.last,
        chain: entry.chain,
        generation: entry.generation,
        rcv_covered: entry.rcv_covered,
        flow: entry.flow,
        closed: false,
        closing: entry.closing,
    }
}
