//! Input: fabric → gate → guest, and the mirror of what others' guests receive.

use crate::groups::Access;
use crate::node::Node;
use escape_proto::Flow;
use escape_vmm::RxOutcome;
use escape_vmm::commit::ingress::{Inbound, Replay};
use escape_vmm::commit::segment::Segment;
use escape_vmm::commit::tombstone::TombstoneAnswer;

/// Frames read per wake-up of an interface, so that a flood cannot starve the commit path.
const FRAMES_PER_TURN_MAX: usize = 256;
/// As often as empties a mirror's queue of 4,096 frames: a flood that goes on meanwhile is not waited for.
const TURNS_PER_MIRROR_MAX: usize = 16;

/// The commit path's name of a flow.
pub(crate) const fn vmm_flow(f: &Flow) -> escape_abi::message::Flow {
    escape_abi::message::Flow { ip: f.ip, port: f.port, service_port: f.service_port }
}

/// The cluster's name of a flow.
pub(crate) const fn cell_flow(f: &escape_abi::message::Flow) -> Flow {
    Flow { ip: f.ip, port: f.port, service_port: f.service_port }
}

impl Node {
    /// The tap has frames.
    pub(crate) fn on_tap(&mut self) {
        for _ in 0..FRAMES_PER_TURN_MAX {
            let Some(mut frame) = self.frame.take() else { return };
            let read = self.vm.net().tap_read(&mut frame);
            let got = matches!(read, Ok(Some(_)));
            if got {
                self.on_inbound(&frame);
            }
            self.frame = Some(frame);
            if !got {
                return;
            }
        }
        self.unfinished.tap = true;
    }

    fn on_inbound(&mut self, frame: &[u8]) {
        let now = self.now();
        if let Some(neighbours) = &mut self.neighbours {
            neighbours.learn(frame);
        }
        let Self { ingress, groups, valve, slices, .. } = self;
        let bindings = valve.bindings();
        let verdict = ingress.on_inbound(frame, now, |flow| {
            let home = slices.of_client(flow.ip).map(|slice| slice.group);
            groups.keeps(&cell_flow(flow), bindings.slice_of(flow).is_some(), home)
        });
        match verdict {
            Inbound::ToGuest(Some(segment)) => self.on_segment(&segment, frame, now),
            // ARP is the edge's to answer; whatever else comes is not of a protected port.
            Inbound::ToGuest(None) | Inbound::Dropped => {}
            Inbound::Stored => {
                self.metrics.gated += 1;
                self.note_kept(frame, now);
            }
        }
    }

    fn on_segment(&mut self, segment: &Segment, frame: &[u8], now: u64) {
        if let Some(slice) = self.valve.bindings().slice_of(&segment.flow) {
            return self.give_guest(Some(slice.slot), frame);
        }
        match self.tombstones.answer(segment, now) {
            TombstoneAnswer::Answer(answer) => return self.send_to_fabric(&answer),
            TombstoneAnswer::Silent => return,
            TombstoneAnswer::NoTombstone | TombstoneAnswer::Reopened => {}
        }
        if !segment.flags.pure_syn() {
            self.count_before_gate(segment);
            return; // A flow that nobody knows: silence, never an RST.
        }
        let open = self.group_of_new(&cell_flow(&segment.flow)).is_some_and(|g| self.groups.access(g) == Access::Open);
        if !open || !self.guest_running {
            self.metrics.syn_not_owned += 1;
            return;
        }
        self.valve.saw_syn_frame(segment, frame, now);
        self.give_guest(None, frame);
    }

    /// A frame of a group that is this node's already, although its gate was never closed (TCP-FAILOVER.md, K).
    fn count_before_gate(&mut self, segment: &Segment) {
        let Some(group) = self.groups.of_new_flow(&cell_flow(&segment.flow)) else { return };
        let owned = self.engine.record(group).is_some_and(|r| Some(r.owner) == self.me);
        self.metrics.before_gate += u64::from(owned && self.groups.access(group) == Access::Foreign);
    }

    /// Takes all that the mirror has: what was sent to a dead owner must be known before its slices' turn comes.
    pub(crate) fn empty_mirror(&mut self) {
        for _ in 0..TURNS_PER_MIRROR_MAX {
            self.on_mirror();
            if !self.unfinished.mirror {
                return;
            }
        }
    }

    /// The mirror may have frames.
    pub(crate) fn on_mirror(&mut self) {
        self.unfinished.mirror = false;
        self.mirror_read_at = self.now();
        for _ in 0..FRAMES_PER_TURN_MAX {
            let Some(mut frame) = self.mirror_frame.take() else { return };
            let read = self.vm.net().mirror_read(&mut frame);
            let got = matches!(read, Ok(Some(_)));
            if got {
                let now = self.now();
                if let Some(neighbours) = &mut self.neighbours {
                    neighbours.learn(&frame);
                }
                if self.ingress.mirror_frame(&frame, now) == Inbound::Stored {
                    self.remember_syn_of(&frame, now);
                }
            }
            self.mirror_frame = Some(frame);
            if !got {
                return;
            }
        }
        self.unfinished.mirror = true;
    }

    /// The gate kept a frame: whoever sent data waits for the plug.
    fn note_kept(&mut self, frame: &[u8], now: u64) {
        use escape_vmm::commit::{Frame, Source, parse};
        let Frame::Tcp(segment) = parse(frame, Source::Client) else { return };
        if segment.flags.pure_syn() {
            self.groups.remember_syn(cell_flow(&segment.flow), now);
        } else if segment.payload_len > 0
            && let Some(slice) = self.groups.waiting(&cell_flow(&segment.flow))
        {
            self.activations.hurry(slice);
        }
    }

    fn remember_syn_of(&mut self, frame: &[u8], now: u64) {
        use escape_vmm::commit::{Frame, Source, parse};
        if let Frame::Tcp(segment) = parse(frame, Source::Client)
            && segment.flags.pure_syn()
        {
            self.groups.remember_syn(cell_flow(&segment.flow), now);
        }
    }

    /// Gives a frame to the guest, for the slice in a slot or for none yet, after those that wait already.
    pub(crate) fn give_guest(&mut self, slot: Option<u32>, frame: &[u8]) {
        self.stages.given(self.now());
        if self.rx_backlog.is_empty() && self.vm.net().push_rx(frame) != RxOutcome::NoBuffer {
            return;
        }
        self.metrics.rx_backlog_full += u64::from(!self.rx_backlog.push(slot, frame));
    }

    /// Gives waiting frames to the guest as far as it has buffers.
    pub(crate) fn drain_rx_backlog(&mut self) {
        while let Some(frame) = self.rx_backlog.front() {
            if self.vm.net().push_rx(frame) == RxOutcome::NoBuffer {
                return;
            }
            self.rx_backlog.pop();
        }
    }

    /// Gives the guest what gate and mirror kept of a flow, in order.
    pub(crate) fn replay(&mut self, flow: &Flow) {
        let Self { ingress, rx_backlog, metrics, valve, .. } = self;
        let slot = valve.bindings().slice_of(&vmm_flow(flow)).map(|slice| slice.slot);
        // Replay goes through the backlog: it keeps the order, and the bound holds for it too.
        let outcome = ingress.replay(&vmm_flow(flow), &mut |frame| {
            let taken = rx_backlog.push(slot, frame);
            metrics.rx_backlog_full += u64::from(!taken);
            taken
        });
        if let Replay::Blocked { left, .. } = outcome {
            tracing::warn!(%flow, left, "guest takes no frames: the rest of a replay is left to the client's TCP");
            self.ingress.forget(&vmm_flow(flow));
        }
        self.drain_rx_backlog();
    }

    /// Sends a released or answered frame.
    pub(crate) fn send_to_fabric(&mut self, frame: &[u8]) {
        if self.vm.net().tap_write(frame).is_err() {
            self.metrics.tap_write_failed += 1;
        }
    }
}
