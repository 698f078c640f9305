//! From one state to the next.

use super::action::Action;
use super::bounds::Bounds;
use super::message::{EDGE, Message, ORCHESTRATOR, name};
use super::process::{Local, NODES};
use super::world::World;
use escape_engine::Mutant;
use escape_engine::node::Event;
use escape_proto::{Mode, SliceId, ToOrchestrator};
use std::collections::VecDeque;

/// A step in the making.
pub struct Step<'a> {
    /// The configuration.
    pub bounds: &'a Bounds,
    /// The deliberate fault.
    pub mutant: Option<Mutant>,
    /// The state.
    pub world: World,
    /// What the machines said, if somebody wants to read it.
    pub told: Option<Vec<String>>,
    soon: VecDeque<Soon>,
}

/// What takes no step of its own.
enum Soon {
    Arrive(usize, usize, Message),
    Finish(usize, u8, Local),
    Hold(usize, u8, SliceId),
}

impl<'a> Step<'a> {
    /// A step from this state.
    pub const fn new(bounds: &'a Bounds, mutant: Option<Mutant>, world: World) -> Self {
        Self { bounds, mutant, world, told: None, soon: VecDeque::new() }
    }

    /// Lets one thing happen, judges, and completes the state.
    pub fn take(&mut self, action: Action) {
        self.perform(action);
        self.run_soon();
        self.judge_state();
        self.world.seal();
    }

    fn perform(&mut self, action: Action) {
        let left = &mut self.world.left;
        match action {
            Action::Deliver(from, to) => {
                if let Some(message) = self.world.pop(from, to) {
                    self.receive(from, to, message);
                }
            }
            Action::Lose(from, to) => {
                left.losses -= 1;
                self.world.pop(from, to);
            }
            Action::Double(from, to) => {
                left.doubles -= 1;
                if let Some(message) = self.world.queue(from, to).first().cloned() {
                    self.receive(from, to, message);
                }
            }
            Action::Open(group) => self.open_session(group),
            Action::Ask(slice, close) => self.ask(slice, close),
            Action::Repeat(slice) => {
                left.repeats -= 1;
                self.repeat(slice);
            }
            Action::Finish(n, at) => {
                if let Some(p) = self.world.nodes[n].edit().process.as_mut() {
                    let local = p.under_way.remove(at);
                    self.finish(n, local);
                }
            }
            Action::Write => self.write(),
            Action::Condemn(n) => self.condemn(n),
            Action::Crash(n, kept) => {
                left.crashes -= 1;
                self.crash_node(n, kept);
            }
            Action::Start(n) => {
                left.starts -= 1;
                self.start_node(n);
            }
            Action::Reset(a, b, kept) => {
                left.resets -= 1;
                self.reset(a, b, kept);
            }
            Action::Connect(a, b) => self.connect(a, b),
            Action::ResetControl(n) => {
                left.control_resets -= 1;
                self.reset_control(n);
            }
            Action::CrashOrchestrator(written) => {
                left.orchestrator_crashes -= 1;
                self.replace_orchestrator(written, 0);
            }
            Action::CrashEdge => {
                left.edge_crashes -= 1;
                self.replace_edge();
            }
            Action::CrashGuest(n) => {
                left.guest_crashes -= 1;
                self.crash_guest(n);
            }
            Action::StartGuest(n) => self.start_guest(n),
            Action::Tick(n) => {
                left.ticks -= 1;
                self.world.nodes[n].edit().clock += 1;
                self.feed(n, Event::Tick);
            }
            Action::Report(n) => {
                left.reports -= 1;
                let report = self.world.nodes[n].process.as_ref().and_then(|p| p.lease_report(self.bounds.slots));
                if let Some(report) = report {
                    self.send_orchestrator(n, ToOrchestrator::Leases(report));
                }
            }
            Action::LoseHope => {
                left.hopes -= 1;
                self.lose_hope();
            }
            Action::Move(n, slice) => {
                left.moves -= 1;
                self.feed(n, Event::MoveAsked { request: 0, slices: vec![slice], to: None });
            }
            Action::Pause(n) => {
                left.pauses -= 1;
                self.world.nodes[n].edit().clock += 1_000;
            }
        }
    }

    /// A message arrives.
    fn receive(&mut self, from: usize, to: usize, message: Message) {
        self.tell(|| format!("{} → {}: {}", name(from), name(to), message.brief()));
        match to {
            ORCHESTRATOR => self.orchestrator_receives(from, message),
            EDGE => self.edge_receives(message),
            n => self.node_receives(n, from, message),
        }
    }

    /// Sends; what is quick in this configuration arrives within the step.
    pub fn send(&mut self, from: usize, to: usize, message: Message) {
        let quick = !self.bounds.slow_edge && (from == EDGE || to == EDGE);
        if quick {
            self.soon.push_back(Soon::Arrive(from, to, message));
        } else {
            self.world.push(from, to, message);
        }
    }

    /// A node begins something.
    pub fn begin(&mut self, n: usize, local: Local) {
        let slow = match local {
            Local::Apply(..) => self.bounds.slow_apply,
            Local::GateClosed(..) | Local::Plugged(..) => self.bounds.slow_gate,
        };
        let Some(p) = self.world.nodes[n].edit().process.as_mut() else { return };
        if slow {
            p.under_way.push(local);
        } else {
            self.soon.push_back(Soon::Finish(n, p.life, local));
        }
    }

    /// All that takes no step of its own.
    pub fn run_soon(&mut self) {
        while let Some(soon) = self.soon.pop_front() {
            match soon {
                Soon::Arrive(from, to, message) => self.receive(from, to, message),
                Soon::Finish(n, life, local) if self.lives(n, life) => self.finish(n, local),
                Soon::Hold(n, life, slice) if self.lives(n, life) => self.hold(n, slice),
                Soon::Finish(..) | Soon::Hold(..) => {}
            }
        }
    }

    /// Once the engine's commands are carried out: the guest's last reply goes into the valve again.
    pub fn hold_soon(&mut self, n: usize, slice: SliceId) {
        if let Some(p) = &self.world.nodes[n].process {
            self.soon.push_back(Soon::Hold(n, p.life, slice));
        }
    }

    fn lives(&self, n: usize, life: u8) -> bool {
        self.world.nodes[n].process.as_ref().is_some_and(|p| p.life == life)
    }

    /// A line for people.
    pub fn tell(&mut self, line: impl FnOnce() -> String) {
        if let Some(told) = &mut self.told {
            told.push(line());
        }
    }
}

/// All that can happen in a state.
pub fn possible(bounds: &Bounds, world: &World, actions: &mut Vec<Action>) {
    if world.broken.is_some() {
        return;
    }
    on_the_way(world, actions);
    inside_nodes(world, actions);
    by_clients(bounds, world, actions);
    by_faults(world, actions);
    if world.control.txn.is_some() {
        actions.push(Action::Write);
    }
}

fn on_the_way(world: &World, actions: &mut Vec<Action>) {
    for from in 0..=EDGE {
        for to in 0..=EDGE {
            let Some(message) = world.queue(from, to).first() else { continue };
            actions.push(Action::Deliver(from, to));
            let told = from == ORCHESTRATOR || to == EDGE || from == EDGE;
            if world.left.losses > 0 && message.is_plain() && !told {
                actions.push(Action::Lose(from, to));
            }
            if world.left.doubles > 0 && message.is_plain() {
                actions.push(Action::Double(from, to));
            }
        }
    }
}

fn inside_nodes(world: &World, actions: &mut Vec<Action>) {
    for (n, place) in world.nodes.iter().enumerate() {
        let Some(p) = &place.process else { continue };
        let mut applies = 0;
        for (at, local) in p.under_way.iter().enumerate() {
            applies += u32::from(matches!(local, Local::Apply(..)));
            if applies <= 1 || !matches!(local, Local::Apply(..)) {
                actions.push(Action::Finish(n, at));
            }
        }
        if !p.guest_up {
            actions.push(Action::StartGuest(n));
        }
    }
    for (a, b) in PAIRS {
        let ready = |n: usize, other: usize| {
            let p = world.nodes[n].process.as_ref();
            p.is_some_and(|p| p.engine.me().is_some() && p.peers[other].is_none())
        };
        let empty = world.queue(a, b).is_empty() && world.queue(b, a).is_empty();
        if !world.is_linked(a, b) && empty && ready(a, b) && ready(b, a) {
            actions.push(Action::Connect(a, b));
        }
    }
}

/// Pairs of nodes.
pub const PAIRS: [(usize, usize); NODES] = [(0, 1), (0, 2), (1, 2)];

fn by_clients(bounds: &Bounds, world: &World, actions: &mut Vec<Action>) {
    for (g, left) in world.left.opens.iter().enumerate() {
        if *left > 0 {
            actions.push(Action::Open(escape_proto::GroupId(g as u32)));
        }
    }
    for (slice, story) in &world.truth.stories {
        let Some(seen) = story.seen.filter(|_| !story.closed && !story.lost) else { continue };
        let steered = world.edge.steering(story.group).map(|s| usize::from(s.owner.node.0));
        let served = steered.and_then(|n| world.nodes[n].process.as_ref()).and_then(|p| p.vmm.guest.get(slice));
        let asked = served.map_or(seen, |r| r.state.count);
        if served.is_some_and(|r| r.state.closed) {
            continue;
        }
        if asked < world.left.requests && asked < seen.saturating_add(bounds.window) {
            actions.push(Action::Ask(*slice, false));
        }
        if world.left.closes > 0 && asked == seen {
            actions.push(Action::Ask(*slice, true));
        }
        if world.left.repeats > 0 && asked > 0 {
            actions.push(Action::Repeat(*slice));
        }
    }
}

fn by_faults(world: &World, actions: &mut Vec<Action>) {
    let left = world.left;
    for (n, place) in world.nodes.iter().enumerate() {
        let known = world.control.machine.store().and_then(|s| s.node(escape_proto::NodeId(n as u16)));
        let alive = known.is_some_and(|r| place.member() == Some(r.member));
        let up = known.filter(|r| r.state == escape_proto::NodeState::Up).map(|r| r.member);
        if up.is_some() && up != world.control.condemned[n] && (!alive || left.false_deaths > 0) {
            actions.push(Action::Condemn(n));
        }
        let Some(p) = &place.process else {
            if left.starts > 0 {
                actions.push(Action::Start(n));
            }
            continue;
        };
        let sent = (0..=EDGE).any(|to| !world.queue(n, to).is_empty());
        let both = [true, false];
        if left.moves > 0 {
            let idle = p.vmm.guest.iter().filter(|(_, r)| !r.frozen && p.engine.owns(r.group));
            actions.extend(idle.map(|(slice, _)| Action::Move(n, *slice)));
        }
        if left.crashes > 0 {
            actions.extend(both.into_iter().filter(|kept| *kept || sent).map(|kept| Action::Crash(n, kept)));
        }
        let possible = [
            (left.control_resets, Action::ResetControl(n)),
            (if p.guest_up { left.guest_crashes } else { 0 }, Action::CrashGuest(n)),
            (left.ticks, Action::Tick(n)),
            (if place.member().is_some() { left.reports } else { 0 }, Action::Report(n)),
            (left.pauses, Action::Pause(n)),
        ];
        actions.extend(possible.into_iter().filter(|(left, _)| *left > 0).map(|(_, action)| action));
    }
    if left.resets > 0 {
        for (a, b) in PAIRS.into_iter().filter(|(a, b)| world.is_linked(*a, *b)) {
            let sent = !world.queue(a, b).is_empty() || !world.queue(b, a).is_empty();
            actions.push(Action::Reset(a, b, true));
            if sent {
                actions.push(Action::Reset(a, b, false));
            }
        }
    }
    if left.hopes > 0 && is_orphaned(world) {
        actions.push(Action::LoseHope);
    }
    if left.orchestrator_crashes > 0 {
        actions.push(Action::CrashOrchestrator(false));
        if world.control.txn.is_some() {
            actions.push(Action::CrashOrchestrator(true));
        }
    }
    if left.edge_crashes > 0 {
        actions.push(Action::CrashEdge);
    }
}

/// Does a group wait for somebody who remembers it?
fn is_orphaned(world: &World) -> bool {
    let Some(store) = world.control.machine.store() else { return false };
    let up = |m: escape_proto::Member| store.node(m.node).is_some_and(|n| n.is_up(m));
    store.groups().any(|g| g.mode != Mode::Lost && !up(g.owner))
}
