//! The data thread's loop.
//!
//! A turn: take what has come (links first: acknowledgements release output and arriving checkpoints are somebody's
//! latency), then the guest's messages and frames, then capture what waits, then put everything staged on the wire and
//! wake the guest once.

use crate::error::NodeError;
use crate::node::Node;
use crate::tokens;
use escape_engine::node::Event;
use mio::Events;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Longest sleep: the engine, the guest watch and the progress counter want to be looked at this often.
const TICK: Duration = Duration::from_millis(4);
/// Sleep while frames wait for receive buffers, or slots for a capture: epoll rounds it up to a millisecond.
const BUSY_TICK: Duration = Duration::from_micros(200);
/// The mirror is looked at this often at most, and not when a frame comes: nobody waits for its frames as long as their slice's owner lives, and
/// by then most of them are covered by a checkpoint, so that they need not be kept. Its queue has a thousand places (the kernel's
/// default) or more, which no mirror fills between two ticks.
const MIRROR_EVERY_US: u64 = 1_000;
/// Turns without a sleep while a slot that is to be captured is referenced: its guest ends a reference within
/// microseconds, unless its vCPU waits for a processor; then this thread must give it one.
const SPINS_MAX: u32 = 20;
/// Events taken per turn.
const EVENTS_MAX: usize = 256;

/// How a node ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to stop.
    Stopped,
    /// Its guest cannot be started again: the caller runs the program anew, which remembers nothing.
    Restart,
}

impl Node {
    /// Runs until the node is stopped or must start over.
    ///
    /// # Errors
    /// What ended it.
    pub fn run(&mut self) -> Result<Ended, NodeError> {
        crate::affinity::pin_to(self.config.cpu);
        self.register()?;
        self.watch_operator()?;
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut ticked = Instant::now();
        let mut spins = 0;
        loop {
            spins = if self.valve.waiting_len() > 0 { spins + 1 } else { 0 };
            let sleep = self.sleep(spins);
            match self.poll.poll(&mut events, Some(sleep)) {
                Err(e) if e.kind() != std::io::ErrorKind::Interrupted => {
                    return Err(NodeError::Os { what: "epoll", source: e });
                }
                _ => {}
            }
            let turns = self.heartbeat.pulse().data_turns.fetch_add(1, Ordering::Relaxed);
            self.metrics.turns = turns + 1;
            for event in &events {
                self.on_event(event)?;
            }
            self.go_on();
            self.on_guest_messages();
            self.on_guest_output();
            let now = Instant::now();
            if now.duration_since(ticked) >= TICK {
                ticked = now;
                self.on_tick(now)?;
            }
            self.plug_some();
            self.capture_waiting();
            self.on_peer_changes();
            self.finish_turn();
            if self.wants_restart {
                self.vm.stop();
                return Ok(Ended::Restart);
            }
            if self.stopping {
                self.vm.stop();
                return Ok(Ended::Stopped);
            }
        }
    }

    /// What the last turn left.
    fn go_on(&mut self) {
        if std::mem::take(&mut self.unfinished.tap) {
            self.on_tap();
        }
        if self.unfinished.mirror || self.now().saturating_sub(self.mirror_read_at) >= MIRROR_EVERY_US {
            self.on_mirror();
        }
        for (node, channel) in std::mem::take(&mut self.unfinished.peers) {
            self.on_peer(node, channel, None);
        }
    }

    /// How long the next turn may wait for events.
    fn sleep(&self, spins: u32) -> Duration {
        let captures = self.valve.waiting_len() > 0;
        let plugs = self.guest_running && self.activations.has_work();
        if self.unfinished.any() || plugs || (captures && spins <= SPINS_MAX) {
            Duration::ZERO
        } else if captures || !self.rx_backlog.is_empty() {
            BUSY_TICK
        } else {
            TICK
        }
    }

    fn on_event(&mut self, event: &mio::event::Event) -> Result<(), NodeError> {
        match event.token() {
            tokens::TX_KICK => self.vm.net().clear_tx_kick(),
            tokens::RX_KICK => self.vm.net().clear_rx_kick(),
            tokens::DOORBELL => self.vm.control().clear_doorbell(),
            tokens::RNG_KICK => self.vm.rng().service(),
            tokens::GUEST_EXIT => self.on_guest_exit(),
            tokens::TAP => self.on_tap(),
            tokens::ORCHESTRATOR => self.on_orchestrator(event)?,
            tokens::EDGE => self.on_edge(event),
            tokens::OPERATOR => self.on_operator(),
            // Looked at in every turn.
            tokens::WAKE | tokens::STOCK => {}
            tokens::WAKER => {
                if let Some(waker) = &mut self.waker {
                    waker.accept();
                }
            }
            token if self.listener.tokens().contains(&token.0) => self.on_listener(event),
            token => {
                if let Some((node, channel)) = tokens::peer_of(token) {
                    self.on_peer(node, channel, Some(event));
                }
            }
        }
        Ok(())
    }

    fn on_tick(&mut self, now: Instant) -> Result<(), NodeError> {
        let us = self.now();
        self.engine_event(Event::Tick);
        self.tell_suspicions();
        self.watch_guest(us);
        self.capture_stale(us);
        self.valve.expire(us);
        self.ingress.expire(us);
        self.tombstones.expire(us);
        self.forget_given_up(us);
        self.listener.on_time(self.poll.registry(), now);
        self.accept_links(now);
        self.peers.check_time(now);
        self.peers.call(self.poll.registry(), now);
        self.call_upstream(now)?;
        self.report_counts(us);
        self.report_leases(us);
        self.confirm_flows();
        self.apply_put_off(us);
        self.do_late(us);
        self.prefault_some();
        Ok(())
    }

    /// Puts everything staged on the wire and wakes the guest at most once.
    fn finish_turn(&mut self) {
        self.send_flips();
        self.peers.flush();
        self.orchestrator.flush();
        self.edge.flush();
        self.drain_rx_backlog();
        self.vm.net().flush_rx();
        if self.capturer.take_kick() {
            self.vm.control().kick();
        }
        self.vm.control().notify();
        if let Some(waker) = &mut self.waker {
            if self.vm.take_wake() {
                waker.wake();
            }
            self.unfinished.stock = self.vm.stock().service();
        }
    }
}
