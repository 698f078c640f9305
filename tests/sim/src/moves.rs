//! Sessions that are moved while they live (T9).

use crate::node_process::Local;
use crate::vmm::Image;
use crate::world::{Happening, World};
use escape_engine::node::Event;
use escape_proto::{EdgeRequest, FlowEntry, GroupId, SliceId};

impl World {
    /// An operator moves a session, or a few of one group, to their standby.
    pub fn ask_to_move(&mut self, n: usize) {
        let (choice, several) = (self.rng.index(64), self.rng.one_in(3));
        let Some(p) = self.nodes[n].process.as_ref().filter(|p| !p.paused && !p.vmm.guest.is_empty()) else { return };
        let chosen = p.vmm.guest.iter().nth(choice % p.vmm.guest.len()).map(|(slice, r)| (*slice, r.group));
        let Some((slice, group)) = chosen else { return };
        let others = p.vmm.guest.iter().filter(|(s, r)| r.group == group && **s != slice).map(|(s, _)| *s);
        let slices = std::iter::once(slice).chain(others.take(if several { 2 } else { 0 })).collect();
        self.feed(n, Event::MoveAsked { request: 1, slices, to: None });
    }

    /// The guest is to leave the slice alone; what it is is captured a little later.
    pub fn freeze(&mut self, n: usize, group: GroupId, slice: SliceId) {
        let delay = if self.rng.one_in(10) { self.rng.range(1_000, 30_000) } else { self.rng.range(5, 60) };
        let Some(p) = self.nodes[n].process.as_mut() else { return };
        let Some(running) = p.vmm.guest.get_mut(&slice) else { return };
        running.frozen = true;
        let (life, guest) = (p.life, p.vmm.guest_life.unwrap_or(0));
        self.after(delay, Happening::Local { node: n, life, what: Local::Rest(group, slice, guest) });
    }

    /// It is at rest.
    pub fn rest(&mut self, n: usize, group: GroupId, slice: SliceId) {
        let Some(p) = self.nodes[n].process.as_mut() else { return };
        let Some(running) = p.vmm.guest.get(&slice).filter(|r| r.frozen && !r.rested) else { return };
        if p.vmm.own.get(&slice).is_none_or(|image| image.generation != running.generation) {
            self.capture(n, slice);
        }
        let Some(p) = self.nodes[n].process.as_mut() else { return };
        if let Some(running) = p.vmm.guest.get_mut(&slice) {
            running.rested = true;
            self.feed(n, Event::Frozen { group, slice });
        }
    }

    /// It goes on here.
    pub fn thaw(&mut self, n: usize, slice: SliceId) {
        let Some(p) = self.nodes[n].process.as_mut() else { return };
        if let Some(running) = p.vmm.guest.get_mut(&slice) {
            (running.frozen, running.rested) = (false, false);
            self.hold(n, slice);
        }
    }

    /// It is another node's: what was its owner's image is kept for that one.
    pub fn hand_over(&mut self, n: usize, slice: SliceId, to: GroupId) {
        let Some(p) = self.nodes[n].process.as_mut() else { return };
        let image = p.vmm.own.get(&slice).cloned();
        p.vmm.forget(slice);
        match image {
            Some(image) => {
                p.vmm.standby.insert(slice, Image { group: to, body: Vec::new(), ..image });
            }
            None => self.oracle.violate("engine", format!("node {n} hands over slice {slice} that it has not")),
        }
    }

    /// An image is of another group.
    pub fn regroup(&mut self, n: usize, slice: SliceId, to: GroupId) {
        let Some(p) = self.nodes[n].process.as_mut() else { return };
        let image = p.vmm.standby.get_mut(&slice).or_else(|| p.vmm.own.get_mut(&slice));
        let Some(image) = image else {
            let detail = format!("node {n} is to regroup slice {slice}, of which it has no image");
            return self.oracle.violate("engine", detail);
        };
        image.group = to;
        let flow = image.flow;
        self.send_edge(n, EdgeRequest::Flows(vec![FlowEntry { flow, group: to }]));
    }
}
