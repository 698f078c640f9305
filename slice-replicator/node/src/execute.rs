//! Carries out the engine's commands, in order.

use crate::groups::Access;
use crate::inbound::vmm_flow;
use crate::node::Node;
use crate::outbound::{cell_slice, vmm_slice};
use crate::wire_body;
use escape_abi::HostMessage;
use escape_engine::Mutant;
use escape_engine::node::{Command, Event, RefuseApply};
use escape_link::PeerFrame;
use escape_proto::{BodyKind, CheckpointHead, CheckpointNo, GroupId, Member, Milestone, SliceId, ToOrchestrator};
use escape_vmm::commit::{ApplyError, ImageError, Role};
use std::collections::VecDeque;

/// How long the mutant "acknowledge before apply" puts its applications off, microseconds.
const PUT_OFF_US: u64 = 200_000;

/// Longest cause of a slice's end that is told, characters.
const CAUSE_MAX: usize = 200;

/// Longest stretch of prefaulting per tick, microseconds.
const PREFAULT_STEP_US: u64 = 300;

/// The body that has just arrived, borrowed from its link.
pub(crate) type Arrived<'a> = Option<(u64, &'a [u8])>;

impl Node {
    /// Tells the engine, and does what it says.
    pub(crate) fn engine_event(&mut self, event: Event) {
        self.engine_event_with(event, None);
    }

    /// The same while a body is at hand.
    pub(crate) fn engine_event_with(&mut self, event: Event, arrived: Arrived<'_>) {
        let now = self.now();
        let mut commands = std::mem::take(&mut self.commands);
        self.engine.on(now, event, &mut commands);
        self.execute(&mut commands, arrived);
        self.commands = commands;
    }

    /// Carries out commands; what follows from them is done after them.
    pub(crate) fn execute(&mut self, commands: &mut Vec<Command>, arrived: Arrived<'_>) {
        if commands.is_empty() {
            return;
        }
        let mut queue: VecDeque<Command> = commands.drain(..).collect();
        while let Some(command) = queue.pop_front() {
            if let Some(event) = self.carry_out(command, arrived) {
                let now = self.now();
                self.engine.on(now, event, commands);
                queue.extend(commands.drain(..));
            }
        }
    }

    fn carry_out(&mut self, command: Command, arrived: Arrived<'_>) -> Option<Event> {
        tracing::trace!(?command, "command");
        match command {
            Command::Send { to, head } => {
                // A capture sends its own. What is left is a CLOSE said once more behind a full copy: the receiver has
                // its state, and looks at the head only.
                self.send_checkpoint(to, head, &[], false);
            }
            Command::SendFull { to, head } => return self.send_full(to, head),
            Command::Apply { from, head, body } => return self.apply(from, head, body, arrived),
            Command::DropBody { body } => {
                self.open_body.take_if(|open| *open == body);
                self.bodies.remove(&body);
            }
            Command::SendAck { to, ack } => self.peers.send(to, &PeerFrame::Ack(ack)),
            Command::SendRefusal { to, refusal } => {
                self.metrics.refused += 1;
                self.peers.send(to, &PeerFrame::Refusal(refusal));
            }
            Command::SendProbe { to, group, epoch, nonce } => {
                self.peers.send(to, &PeerFrame::Probe { group, epoch, nonce });
            }
            Command::SendProbeReply { to, group, epoch, nonce, standing_by } => {
                self.peers.send(to, &PeerFrame::ProbeReply { group, epoch, nonce, standing_by });
            }
            Command::Release { slice, generation } => self.release(slice, generation),
            Command::Closed { slice, .. } => self.close(slice),
            Command::Entomb { slice } => self.entomb(slice),
            Command::FreeImage { slice } => self.free_standby_image(slice),
            Command::Cas { attempt, to } => self.orchestrator.send(&ToOrchestrator::Cas { attempt, to }),
            Command::Read { attempt, group } => self.orchestrator.send(&ToOrchestrator::Read { attempt, group }),
            Command::Activate { group, epoch, slices } => {
                self.empty_mirror();
                self.activations.begin(group, epoch, slices.len());
                // T11: what the former life of its guest held is void.
                slices.iter().for_each(|s| self.detach(s.slice));
                if self.puts_gate_off(group, epoch) {
                    return None;
                }
                self.close_gate(group);
                for slice in slices.iter().map(|s| s.slice) {
                    self.flows_of(slice).into_iter().for_each(|flow| self.groups.wait_for_plug(flow, group, slice));
                }
                self.milestone(Milestone::GateClosed(group, epoch));
                return Some(Event::GateClosed { group, epoch });
            }
            Command::RequestFlip { group, epoch } => self.flips.push((group, epoch)),
            Command::Plug { group, slices } => self.queue_plugs(group, slices),
            Command::OpenGate { slice, .. } => self.open_gate(slice),
            Command::OpenGroup { group } => self.open_group(group),
            Command::DropGroup { group, slices } => self.drop_group(group, &slices),
            Command::Rejoin => self.life_is_over = true,
            Command::CaptureSoon { slice } => self.valve.want_capture(vmm_slice(slice)),
            Command::Freeze { slice, .. } => self.freeze(slice),
            Command::Thaw { slice } => self.thaw(slice),
            Command::RequestMove { attempt, group, epoch, slices } => {
                self.orchestrator.send(&ToOrchestrator::Move { attempt, group, epoch, slices });
            }
            Command::HandOver { slice, .. } => self.hand_over(slice),
            Command::Regroup { slice, to } => self.regroup(slice, to),
            Command::ReportMoved { to } => self.orchestrator.send(&ToOrchestrator::Moved { to }),
            Command::AnswerMove { request, answer } => self.answer_move(request, answer),
            Command::ReportGuestDown { crash, referenced, suspects } => {
                let cause = self.guest_cause.clone();
                self.orchestrator.send(&ToOrchestrator::GuestDown { cause, crash, referenced, suspects });
            }
            Command::ReportQuarantine { suspect, cause } => {
                self.orchestrator.send(&ToOrchestrator::Quarantine { suspect, cause });
            }
            Command::SendQuarantine { to, group, epoch, slice } => {
                self.peers.send(to, &PeerFrame::Quarantine { group, epoch, slice });
            }
            Command::GiveUp { slice, cause, .. } => self.give_up(slice, &cause),
            Command::Protected { group, epoch, slices } => {
                self.milestone(Milestone::Protected(group, epoch, slices));
            }
            Command::Diverged { slice, detail } => self.quarantine(slice, &detail),
        }
        None
    }

    /// The slice runs here no more: what its guest held of it is void. Its image stays.
    pub(crate) fn detach(&mut self, slice: SliceId) {
        if self.slices.remove(slice).is_some() {
            self.capturer.forget(vmm_slice(slice), self.vm.slots());
            self.valve.discard(vmm_slice(slice));
            self.commits.forget(slice.slot);
        }
    }

    /// From here on the group's input is kept.
    pub(crate) fn close_gate(&mut self, group: GroupId) {
        self.groups.set(group, Access::Gated);
    }

    /// I1: frames that the committed state covers leave, in order.
    fn release(&mut self, slice: SliceId, generation: u64) {
        let Some(outstanding) = self.commits.committed(slice, generation) else { return };
        let (coverage, marks) = (outstanding.coverage, outstanding.marks);
        self.stages.acknowledged(marks, self.now());
        let Self { valve, vm, metrics, .. } = self;
        let net = vm.net();
        let released = valve.release(slice.slot, &coverage, &mut |frame| {
            metrics.tap_write_failed += u64::from(net.tap_write(frame).is_err());
        });
        self.metrics.released += u64::from(released.frames);
        self.stages.released(marks, self.now());
        if let Some(breach) = released.breach {
            return self.quarantine(slice, &format!("I1: {breach}"));
        }
        self.end_connections(slice, &coverage);
    }

    /// An event: full copies have used up their share of the link.
    fn send_full(&mut self, to: Member, head: CheckpointHead) -> Option<Event> {
        let mut body = Vec::new();
        match self.images.encode_full(vmm_slice(head.slice), &mut body) {
            Ok(encoded) if encoded.checkpoint.number == head.no.0 => {
                let mut wire = Vec::new();
                wire_body::write(&mut wire, Some(&encoded.checkpoint.hash), &body);
                self.metrics.full_copies += 1;
                self.metrics.full_copy_bytes += wire.len() as u64;
                self.send_checkpoint(to, head, &wire, true);
                let until = self.bulk.spend(self.now(), wire.len())?;
                self.metrics.bulk_pauses += 1;
                return Some(Event::BulkPaused { until });
            }
            // The engine waits for this copy: without it the pair starts anew, by a link that ends.
            Ok(encoded) => {
                let (image, asked) = (encoded.checkpoint.number, head.no.0);
                tracing::error!(slice = %head.slice, image, asked, "full copy of another checkpoint");
                self.peers.end(to.node);
            }
            Err(error) => {
                tracing::warn!(slice = %head.slice, %error, "no full copy");
                self.peers.end(to.node);
            }
        }
        None
    }

    /// Applies a whole checkpoint or nothing of it.
    fn apply(&mut self, from: Member, head: CheckpointHead, body: u64, arrived: Arrived<'_>) -> Option<Event> {
        let kept = self.bodies.remove(&body);
        self.open_body.take_if(|open| *open == body);
        let bytes = match (&kept, arrived) {
            (Some(kept), _) => kept.as_slice(),
            (None, Some((token, bytes))) if token == body => bytes,
            _ => &[],
        };
        if self.broken == Some(Mutant::AckBeforeApply) && head.kind == BodyKind::Delta {
            // On purpose: acknowledged now, applied later or never.
            let due = self.now() + PUT_OFF_US;
            self.put_off.push_back((due, head, bytes.to_vec()));
            return Some(Event::Applied { from, head, result: Ok(()) });
        }
        let result = self.apply_bytes(&head, bytes);
        self.metrics.applied += u64::from(result.is_ok());
        Some(Event::Applied { from, head, result })
    }

    fn apply_bytes(&mut self, head: &CheckpointHead, wire: &[u8]) -> Result<(), RefuseApply> {
        let slice = vmm_slice(head.slice);
        let flow = vmm_flow(&head.flow);
        let (checkpoint, body) = wire_body::read(wire, head.no.0, head.base.0, head.chain.0)
            .ok_or_else(|| RefuseApply::Corrupt("body too short".into()))?;
        let whole = checkpoint.base == 0;
        if whole && self.images.get(slice).is_none() {
            self.make_room(head)?;
            self.images.create(slice, flow, Role::Standby).map_err(|e| match e {
                ImageError::Occupied { .. } | ImageError::NoSuchSlot { .. } => RefuseApply::NoRoom,
                other => RefuseApply::Corrupt(other.to_string()),
            })?;
        }
        let applied = self.images.apply(slice, &checkpoint, body).map_err(|e| refuse(&e))?;
        self.follow_connections(head.slice, &applied.before, &applied.connections);
        if applied.full {
            self.add_lease_of(head.slice.slot);
        }
        if !applied.new_pages.is_empty() {
            self.to_prefault.push_back((head.slice.slot, applied.new_pages));
        }
        Ok(())
    }

    /// Makes arena pages present that images came to need lately, a little at a time: a plug of many slices must not
    /// fault, and nobody's commit must wait for it.
    pub(crate) fn prefault_some(&mut self) {
        let until = self.now() + PREFAULT_STEP_US;
        while let Some((slot, pages)) = self.to_prefault.pop_front() {
            pages.prefault(slot, self.vm.slots());
            if self.now() >= until {
                return;
            }
        }
    }

    /// An older slice's standby image in the slot gives way to the slot's next use (its CLOSE was lost on the way).
    fn make_room(&mut self, head: &CheckpointHead) -> Result<(), RefuseApply> {
        let Some(present) = self.images.in_slot(head.slice.slot) else { return Ok(()) };
        let older = present.role == Role::Standby && present.slice.incarnation < head.slice.inc;
        if !older {
            return Err(RefuseApply::NoRoom);
        }
        let old = present.slice;
        tracing::info!(old = %old, new = %head.slice, "slot used again: the old image goes");
        self.free_standby_image(cell_slice(old));
        Ok(())
    }

    /// Mutant "acknowledge before apply": what was put off and is due.
    pub(crate) fn apply_put_off(&mut self, now: u64) {
        while self.put_off.front().is_some_and(|(due, ..)| *due <= now) {
            if let Some((_, head, bytes)) = self.put_off.pop_front() {
                let _ = self.apply_bytes(&head, &bytes);
            }
        }
    }

    /// T10 at the owner: CLOSE is acknowledged.
    fn close(&mut self, slice: SliceId) {
        tracing::debug!(%slice, "closed");
        self.lay_tombstones(slice);
        self.flow_ended(slice);
        self.forget_slice(slice);
        self.vm.control().send(HostMessage::SlotFree { slot: slice.slot, incarnation: slice.inc });
    }

    /// T10 at the standby: the image becomes a tombstone.
    fn entomb(&mut self, slice: SliceId) {
        tracing::debug!(%slice, "closed at its owner");
        self.lay_tombstones(slice);
        self.free_standby_image(slice);
    }

    fn free_standby_image(&mut self, slice: SliceId) {
        if self.slices.get(slice).is_some() {
            return; // It is owned here: its image is the shadow.
        }
        tracing::debug!(%slice, flows = ?self.flows_of(slice), "image freed");
        for flow in self.flows_of(slice) {
            self.ingress.forget(&vmm_flow(&flow));
        }
        self.images.free(vmm_slice(slice));
    }

    /// Everything that this node holds of an owned slice goes; nothing is said to anybody.
    pub(crate) fn forget_slice(&mut self, slice: SliceId) {
        let flows = self.flows_of(slice);
        tracing::debug!(%slice, ?flows, "slice forgotten");
        self.capturer.forget(vmm_slice(slice), self.vm.slots());
        self.valve.discard(vmm_slice(slice));
        self.commits.forget(slice.slot);
        self.images.free(vmm_slice(slice));
        if self.slices.remove(slice).is_some() {
            self.forget_input(&flows);
        }
    }

    fn discard(&mut self, slice: SliceId) {
        if self.slices.get(slice).is_some() {
            self.forget_slice(slice);
            self.vm.control().send(HostMessage::Discard { slot: slice.slot, incarnation: slice.inc });
        }
    }

    /// T7: the group's slices are forgotten in silence.
    fn drop_group(&mut self, group: GroupId, slices: &[SliceId]) {
        if self.engine.owns(group) {
            // The group stays; only these were given up.
            return slices.iter().for_each(|s| self.discard(*s));
        }
        self.groups.set(group, Access::Foreign);
        self.activations.cancel(group);
        let owned: Vec<SliceId> = self.slices.of_group(group).map(|s| s.id).collect();
        owned.iter().chain(slices).for_each(|s| self.discard(*s));
        tracing::info!(%group, slices = owned.len(), "stepped down");
        if let Some(epoch) = self.engine.record(group).map(|r| r.epoch) {
            self.milestone(Milestone::Deposed(group, epoch));
        }
    }

    /// One slice is lost, and it alone.
    pub(crate) fn quarantine(&mut self, slice: SliceId, cause: &str) {
        let Some(owned) = self.slices.get(slice).copied() else { return };
        let cause: String = cause.chars().take(CAUSE_MAX).collect();
        self.valve.quarantine(vmm_slice(slice));
        self.give_up(slice, &cause);
        self.engine_event(Event::Quarantined { group: owned.group, slice, cause });
    }

    /// Everything of the slice goes, be it in the guest, on its way there, or an image.
    fn give_up(&mut self, slice: SliceId, cause: &str) {
        self.metrics.quarantined += 1;
        self.milestone(Milestone::Quarantined(slice.slot, slice.inc, cause.to_owned()));
        self.lay_given_up(slice);
        self.discard(slice);
        self.flows_of(slice).iter().for_each(|flow| self.groups.plugged(flow));
        self.free_standby_image(slice);
    }
}

fn refuse(error: &ApplyError) -> RefuseApply {
    match error {
        ApplyError::Unknown { .. } => RefuseApply::WrongBase { have: CheckpointNo(0) },
        ApplyError::Gap { have, .. } | ApplyError::Stale { have, .. } => {
            RefuseApply::WrongBase { have: CheckpointNo(*have) }
        }
        other => RefuseApply::Corrupt(other.to_string()),
    }
}
