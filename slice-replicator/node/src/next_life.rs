//! T7: the store says that this life is over, although the process was only paused or cut off.
//!
//! It is nobody from here on, keeps its images, and joins anew. Groups that nobody else has go on from these images: the
//! engine activates them (T6) like any others, and frees the rest when it hears what its next life has got.

use crate::activation::Activations;
use crate::groups::Groups;
use crate::node::{Node, Unfinished};
use crate::stale_slices::StaleSlices;
use escape_engine::node::Event;
use escape_proto::{Incarnation, LeaseSet, SliceId};
use std::sync::atomic::Ordering;

impl Node {
    /// Ends everything that the former life had under way. The engine has stepped out already.
    pub(crate) fn end_life(&mut self) {
        tracing::warn!(slices = self.slices.len(), "this node was declared dead: it joins anew");
        self.me = None;
        self.heartbeat.pulse().inc.store(0, Ordering::Relaxed);
        self.end_links();
        self.let_slices_go();
        self.forget_plans();
        self.guest_running = false;
        self.guest_watch.down();
        self.engine_event(Event::GuestDown { suspects: Vec::new() });
        self.restart_guest();
    }

    /// Links are of one life: what is still on its way on them is void.
    fn end_links(&mut self) {
        self.peers.leave();
        self.on_peer_changes();
        self.orchestrator.end();
        self.edge.end();
        self.listener.set_hello(self.peers.hello(0, Incarnation(0)));
    }

    /// Output that nobody has acknowledged is dropped. An image stays if the engine keeps it: of a slice that was captured
    /// once, and that had not ended.
    fn let_slices_go(&mut self) {
        let owned: Vec<SliceId> = self.slices.iter().map(|s| s.id).collect();
        for slice in owned {
            if !self.engine.keeps_image(slice) {
                self.forget_slice(slice);
                continue;
            }
            self.detach(slice);
        }
    }

    /// Gates, placement, leases, and everything that was to be done next.
    fn forget_plans(&mut self) {
        self.groups = Groups::default();
        self.activations = Activations::default();
        self.leases.clear();
        self.spent_leases = LeaseSet::default();
        self.stale = StaleSlices::new(self.config.n_slots);
        self.unfinished = Unfinished::default();
        self.bodies.clear();
        self.open_body = None;
        self.put_off.clear();
        self.rx_backlog.clear();
        self.flips.clear();
        self.new_flows.clear();
        self.ended_flows.clear();
        self.given_up_flows.clear();
    }
}
