//! Output: TX kick → classify → hold → capture → send.

use crate::node::Node;
use crate::slice_table::{OwnedSlice, Stage};
use crate::wire_body;
use escape_abi::HostMessage;
use escape_engine::node::{Command, Event};
use escape_proto::{BodyKind, ChainHash, SliceId};
use escape_vmm::commit::verdict::{DropCause, Verdict};
use escape_vmm::commit::{Capture, CaptureError, Coverage};

/// Frames taken per turn: captures and acknowledgements must have their turns.
const FRAMES_PER_TURN_MAX: usize = 256;
/// Captures per turn.
const CAPTURES_PER_TURN_MAX: usize = 256;
/// Slices without output that are put on the capture list per tick (4 ms): some 16,000 a second.
const STALE_PER_TICK_MAX: usize = 64;

/// The commit path's name of a slice.
pub(crate) const fn vmm_slice(s: SliceId) -> escape_vmm::commit::slice_id::SliceId {
    escape_vmm::commit::slice_id::SliceId { slot: s.slot, incarnation: s.inc }
}

/// The cluster's name of a slice.
pub(crate) const fn cell_slice(s: escape_vmm::commit::slice_id::SliceId) -> SliceId {
    SliceId { slot: s.slot, inc: s.incarnation }
}

/// A capture, without its bytes.
struct Taken {
    number: u64,
    hash: [u8; 32],
    coverage: Coverage,
    closed: bool,
    full: bool,
    lines: u64,
}

impl Node {
    /// Takes the guest's frames: each is copied once, classified, and held or dropped.
    pub(crate) fn on_guest_output(&mut self) {
        let Some(mut frame) = self.frame.take() else { return };
        let mut more = true;
        for _ in 0..FRAMES_PER_TURN_MAX {
            if self.vm.net().take_tx(&mut frame).is_none() {
                more = false;
                break;
            }
            // The binding of a new flow was written before its first frame, so look at the ring again after the take.
            let all_read = self.on_guest_messages();
            let now = self.now();
            if let Some(answer) = self.neighbours.as_ref().and_then(|n| n.answer(&frame)) {
                self.give_guest(None, &answer);
                continue;
            }
            match self.valve.submit(&frame, self.vm.slots(), now) {
                Verdict::Send | Verdict::PassUnprotected => {
                    self.stages.output(now);
                    self.send_to_fabric(&frame);
                }
                Verdict::Held { slice, .. } => {
                    self.stages.output(now);
                    self.commits.held(slice.slot, now);
                }
                Verdict::Opening { flow, numbers } => {
                    self.vm.control().send(HostMessage::Opening { flow, numbers });
                }
                Verdict::Dropped(DropCause::Quarantined) => self.on_breach_of_submitted(),
                Verdict::Dropped(_) => {}
            }
            if !all_read {
                break; // A flood of messages: others have their turn first.
            }
        }
        self.frame = Some(frame);
        self.unfinished.output = more;
    }

    /// The valve may have found that a frame contradicts what is committed: the slice is given up here too.
    fn on_breach_of_submitted(&mut self) {
        if let Some((slice, breach)) = self.valve.take_breached() {
            tracing::warn!(%slice, %breach, "slice quarantined");
            self.quarantine(cell_slice(slice), &format!("I1: {breach}"));
        }
    }

    /// Captures slices that have output waiting, and hands each checkpoint to the engine.
    pub(crate) fn capture_waiting(&mut self) {
        let mut referenced = Vec::new();
        for _ in 0..CAPTURES_PER_TURN_MAX {
            let Some(slice) = self.valve.next_waiting() else { break };
            if !self.capture_one(cell_slice(slice)) {
                referenced.push(slice);
            }
        }
        for slice in referenced {
            self.valve.want_capture(slice);
        }
    }

    /// False: the slot is referenced; try again soon.
    fn capture_one(&mut self, slice: SliceId) -> bool {
        let Some(owned) = self.slices.get(slice).copied() else { return true };
        if matches!(owned.stage, Stage::Plugging | Stage::Frozen) {
            return true; // Captured when it runs.
        }
        let Self { capturer, vm, images, wire, .. } = self;
        let captured = match capturer.capture(vmm_slice(slice), vm.slots(), images, &crate::clock::now_us) {
            Ok(Capture::Captured(captured)) => captured,
            Ok(Capture::Unchanged { generation }) => {
                self.valve.note_captured(vmm_slice(slice), generation);
                self.note_rest(slice);
                return true;
            }
            Ok(Capture::Referenced) => return false,
            Err(error) => {
                self.on_capture_error(slice, &error);
                return true;
            }
        };
        let full = captured.full.then_some(&captured.checkpoint.hash);
        wire_body::write(wire, full, captured.body);
        let taken = Taken {
            number: captured.checkpoint.number,
            hash: captured.checkpoint.hash,
            coverage: captured.coverage,
            closed: captured.closed,
            full: captured.full,
            lines: captured.lines as u64,
        };
        self.metrics.checkpoints += 1;
        self.metrics.checkpoint_bytes += captured.body.len() as u64;
        self.on_captured(&owned, &taken);
        self.note_rest(slice);
        true
    }

    fn on_captured(&mut self, owned: &OwnedSlice, taken: &Taken) {
        let slice = owned.id;
        self.valve.note_captured(vmm_slice(slice), taken.coverage.generation);
        self.stale.captured(slice);
        if owned.stage == Stage::New && taken.closed {
            // Finished before anybody outside knew of it: nothing was released, so nothing needs a CLOSE.
            self.forget_slice(slice);
            self.vm.control().send(HostMessage::SlotFree { slot: slice.slot, incarnation: slice.inc });
            return;
        }
        let now = self.now();
        let marks = self.commits.captured(slice.slot, taken.coverage, now);
        self.stages.staged(marks);
        if let Some(entry) = self.slices.at_mut(slice.slot) {
            entry.stage = if taken.closed { Stage::Closing } else { Stage::Running };
        }
        let kind = match (owned.stage, taken.closed, taken.full) {
            (_, true, _) => BodyKind::Close,
            (Stage::New, ..) => BodyKind::Create,
            (_, _, true) => BodyKind::Full,
            _ => BodyKind::Delta,
        };
        let event = Event::Captured {
            group: owned.group,
            slice,
            kind,
            generation: taken.coverage.generation,
            rcv_covered: taken.coverage.connections.first().map_or(0, |c| c.rcv_nxt),
            flow: owned.flow,
            chain: ChainHash(taken.hash),
        };
        self.decide_capture(event, taken);
    }

    /// Lets the engine number the checkpoint, and sends its body, which is in `wire`.
    fn decide_capture(&mut self, event: Event, taken: &Taken) {
        let now = self.now();
        let mut commands = std::mem::take(&mut self.commands);
        tracing::trace!(?event, "event");
        self.engine.on(now, event, &mut commands);
        let wire = std::mem::take(&mut self.wire);
        commands.retain(|command| match command {
            Command::Send { to, head } => {
                debug_assert_eq!(head.no.0, taken.number, "engine and image store count alike");
                let before = self.peers.bytes_to(*to);
                self.send_checkpoint(*to, *head, &wire, false);
                // Nothing: there is no link, or it ended with this.
                let bytes = self.peers.bytes_to(*to).saturating_sub(before);
                if bytes > 0 {
                    self.wire_ratios.record(taken.lines, bytes);
                }
                false
            }
            _ => true,
        });
        self.wire = wire;
        self.execute(&mut commands, None);
        self.commands = commands;
    }

    fn on_capture_error(&mut self, slice: SliceId, error: &CaptureError) {
        tracing::warn!(%slice, %error, "slice quarantined");
        self.quarantine(slice, &error.to_string());
    }

    /// State changed without output: capture within `max_staleness`. At once, if a Linux guest's output waits: its kernel's frames wait for
    /// what the program has read or written meanwhile.
    pub(crate) fn note_changed(&mut self, slot: u32) {
        if !self.config.replication {
            return;
        }
        if let Some(owned) = self.slices.at(slot) {
            if self.config.linux.is_some() && self.valve.held_frames(slot) > 0 {
                return self.valve.want_capture(vmm_slice(owned.id));
            }
            let due = self.now() + self.config.timing.max_staleness_ms * 1000;
            self.stale.push(due, owned.id);
        }
    }

    /// Puts slices on the capture list whose time has come; nobody waits for them, so only a few at once.
    pub(crate) fn capture_stale(&mut self, now: u64) {
        for _ in 0..STALE_PER_TICK_MAX {
            let Some(slice) = self.stale.pop_due(now) else { return };
            self.valve.want_capture(vmm_slice(slice));
        }
    }
}
