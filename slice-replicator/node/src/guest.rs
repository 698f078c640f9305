//! The guest: its messages, its death and its restart.

use crate::error::NodeError;
use crate::groups::Access;
use crate::guest_watch::Look;
use crate::inbound::cell_flow;
use crate::node::Node;
use crate::outbound::vmm_slice;
use crate::slice_table::{OwnedSlice, Stage};
use escape_abi::{GuestMessage, HostMessage};
use escape_engine::node::Event;
use escape_proto::{GroupSlices, Milestone, SliceCounts, SliceId, ToOrchestrator};
use escape_vmm::SlotMemory;
use escape_vmm::commit::Role;

/// Messages taken per call.
const MESSAGES_PER_TURN_MAX: usize = 1024;
/// Figures for people are sent this often, microseconds.
const COUNTS_EVERY_US: u64 = 250_000;

impl Node {
    /// Starts the guest when this process has joined for the first time. At the start of a further life it runs already.
    pub(crate) fn start_guest(&mut self) -> Result<(), NodeError> {
        if self.vm.metrics().boots > 0 {
            return Ok(());
        }
        let vm = &mut self.vm;
        crate::affinity::unpinned(self.config.cpu, || vm.start())?;
        let now = self.now();
        self.guest_watch.started(now);
        Ok(())
    }

    /// Takes what the guest has written to its ring; false if there was more than one turn may take.
    pub(crate) fn on_guest_messages(&mut self) -> bool {
        for _ in 0..MESSAGES_PER_TURN_MAX {
            let Some(message) = self.vm.control().recv() else { return true };
            match message {
                GuestMessage::Ready => self.on_guest_ready(),
                GuestMessage::Bind { slot, incarnation, flow, place, serial } => {
                    let slice = SliceId { slot, inc: incarnation };
                    match self.slices.get(slice).copied() {
                        Some(owned) => self.on_join(&owned, flow, place as usize, serial),
                        None if (place, serial) == (0, 0) => self.on_bind(slice, flow),
                        None => self.metrics.bindings_refused += 1,
                    }
                }
                GuestMessage::Changed { slot } => self.note_changed(slot),
                GuestMessage::Close { slot, incarnation } => {
                    let slice = SliceId { slot, inc: incarnation };
                    self.on_close(slice);
                }
                GuestMessage::Plugged { slot, incarnation, status } => {
                    self.on_plugged(SliceId { slot, inc: incarnation }, status);
                }
                GuestMessage::Unplugged { .. } => {}
                GuestMessage::Poisoned { slot, incarnation, cause } => {
                    self.quarantine(
                        SliceId { slot, inc: incarnation },
                        &format!("poisoned in the guest (cause {cause})"),
                    );
                }
            }
        }
        false
    }

    fn on_guest_ready(&mut self) {
        let now = self.now();
        tracing::info!("guest ready");
        self.guest_running = true;
        self.guest_watch.ready(now);
        self.offer_leases();
        self.milestone(Milestone::GuestReady);
        self.engine_event(Event::GuestReady);
        // The next report says so: new flows are placed here.
        self.leases_told_at = 0;
    }

    /// A binding counts only for a SYN that came in here, of a group that this node owns.
    fn on_bind(&mut self, id: SliceId, flow: escape_abi::message::Flow) {
        let now = self.now();
        let cell = cell_flow(&flow);
        let group = self.group_of_new(&cell).filter(|g| self.groups.access(*g) == Access::Open);
        let refused = match group {
            None => Some("its group is not open here".to_owned()),
            Some(_) if !self.owns_lease_of(id) => Some("its slot is of no lease of this node".to_owned()),
            Some(_) => self.valve.bind(vmm_slice(id), flow, now).err().map(|e| e.to_string()),
        };
        if let (None, Some(group)) = (&refused, group) {
            self.make_shadow(id, flow);
            if self.slices.insert(OwnedSlice { id, group, flow: cell, stage: Stage::New }) {
                self.flow_began(cell, group);
                return;
            }
            self.valve.discard(vmm_slice(id));
        }
        self.metrics.bindings_refused += 1;
        tracing::debug!(slice = %id, flow = %cell, cause = refused.as_deref().unwrap_or("slot taken"), "binding refused");
        self.vm.control().send(HostMessage::Discard { slot: id.slot, incarnation: id.inc });
        self.vm.control().send(HostMessage::SlotFree { slot: id.slot, incarnation: id.inc });
    }

    /// The guest is done with a slice. Its last capture is its CLOSE; without replication nobody waits for one.
    fn on_close(&mut self, slice: SliceId) {
        if self.slices.get(slice).is_none() {
            return;
        }
        if self.config.replication {
            return self.valve.want_capture(vmm_slice(slice));
        }
        self.forget_slice(slice);
        self.vm.control().send(HostMessage::SlotFree { slot: slice.slot, incarnation: slice.inc });
    }

    fn make_shadow(&mut self, id: SliceId, flow: escape_abi::message::Flow) {
        if let Some(old) = self.images.in_slot(id.slot).map(|i| i.slice) {
            self.images.free(old);
        }
        if let Err(error) = self.images.create(vmm_slice(id), flow, Role::Shadow) {
            tracing::warn!(slice = %id, %error, "no shadow");
        }
        self.commits.forget(id.slot);
    }

    /// A vCPU thread stopped.
    pub(crate) fn on_guest_exit(&mut self) {
        while let Some(exit) = self.vm.poll_exit() {
            self.guest_down(&exit.to_string());
        }
    }

    /// Asks the guest for a sign of life.
    pub(crate) fn watch_guest(&mut self, now: u64) {
        let pong = self.vm.control().pong();
        let processor_us = self.vm.processor_us().unwrap_or(0);
        match self.guest_watch.look(now, pong, processor_us) {
            Look::Fine => {}
            Look::Ping(number) => self.vm.control().ping(number),
            Look::Nudge => self.vm.nudge(),
            Look::Hung => self.guest_down("no sign of life from its main loop"),
            Look::NotUp => self.guest_not_up(),
        }
    }

    /// Without a word of it a guest that stops in the middle of its boot would be missed by nobody.
    fn guest_not_up(&mut self) {
        self.vm.stop();
        let at = self.vm.instruction_pointer().unwrap_or(0);
        let exits = self.vm.metrics().exits;
        let limit_s = self.config.timing.guest_boot_ms as f64 / 1e3;
        self.guest_down(&format!(
            "not up {limit_s} s after its start; its processor stands at {at:#x}; exits {exits:?}"
        ));
    }

    /// T11: the guest is down, the VMM goes on as a standby and boots it again.
    fn guest_down(&mut self, cause: &str) {
        tracing::warn!(cause, slices = self.slices.len(), "guest down");
        self.metrics.guest_down += 1;
        self.guest_running = false;
        self.guest_watch.down();
        self.guest_cause = cause.chars().take(200).collect();
        self.milestone(Milestone::GuestDown(self.guest_cause.clone()));
        let suspects = self.referenced();
        self.close_all_gates();
        self.engine_event(Event::GuestDown { suspects });
        self.rx_backlog.clear();
        self.spend_leases();
        self.restart_guest();
    }

    /// Boots the guest anew, with slot incarnations that none of its former boots has given.
    pub(crate) fn restart_guest(&mut self) {
        self.boots += 1;
        let vm = &mut self.vm;
        if let Err(error) = crate::affinity::unpinned(self.config.cpu, || vm.restart()) {
            tracing::error!(%error, "the guest cannot be started again: this node starts over");
            self.wants_restart = true;
        }
        let now = self.now();
        self.guest_watch.started(now);
    }

    /// Slices that the guest was at work on when it died: their words still say so.
    fn referenced(&mut self) -> Vec<SliceId> {
        let Self { slices, vm, .. } = self;
        let running = slices.iter().filter(|s| s.stage != Stage::Plugging);
        running.map(|s| s.id).filter(|s| vm.slots().word(s.slot).is_some_and(|w| w.refs() != 0)).collect()
    }

    /// Input for what the guest had must not reach the next one, which knows nothing of it: it is kept for the plug, or
    /// dropped with the group.
    fn close_all_gates(&mut self) {
        let owned: Vec<_> = self.engine.group_records().filter(|r| Some(r.owner) == self.me).map(|r| r.group).collect();
        for group in owned {
            self.close_gate(group);
        }
        let slices: Vec<_> = self.slices.iter().map(|s| (s.id, s.group)).collect();
        for (slice, group) in slices {
            self.saved_flows_of(slice).into_iter().for_each(|flow| self.groups.wait_for_plug(flow, group, slice));
        }
        // Until they are plugged again or dropped there is nothing of them in the control pages to capture.
        self.slices.for_each_mut(|slice| slice.stage = Stage::Plugging);
    }

    /// Figures for people, now and then.
    pub(crate) fn report_counts(&mut self, now: u64) {
        if now.saturating_sub(self.counts_at) < COUNTS_EVERY_US {
            return;
        }
        self.counts_at = now;
        let counts = self.counts(now);
        self.orchestrator.send(&ToOrchestrator::Counts(counts));
        let groups = self.engine.group_tallies().into_iter();
        let groups = groups.map(|(group, t)| GroupSlices { group, protected: t.protected, solo: t.solo }).collect();
        self.orchestrator.send(&ToOrchestrator::GroupCounts(groups));
        self.publish_metrics(&counts);
    }

    /// Slices by protection, and what the valve holds.
    pub(crate) fn counts(&self, now: u64) -> SliceCounts {
        let tally = self.engine.tally();
        SliceCounts {
            protected: tally.protected,
            solo: tally.solo,
            standby: tally.standby,
            held_frames: u32::try_from(self.held_frames()).unwrap_or(u32::MAX),
            held_age_us: self.valve.oldest_held_us().map_or(0, |at| now.saturating_sub(at)),
        }
    }

    /// Frames in the valve.
    pub(crate) fn held_frames(&self) -> usize {
        self.slices.iter().map(|s| self.valve.held_frames(s.id.slot)).sum()
    }
}
