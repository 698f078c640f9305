//! Slices that the host holds for a capture (some 50 µs): what is for them waits.

use crate::frame::Segment;
use crate::host::Host;
use crate::server::Server;
use crate::tcp::TcpEvent;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use escape_abi::GuestMessage;
use escape_abi::message::Flow;

/// Frames that wait; further ones are dropped and counted: the client sends them again.
const DEFERRED_FRAMES_MAX: usize = 512;

#[derive(Debug)]
enum Work {
    Frame(Vec<u8>),
    /// The forced output of a slice that was plugged. At most one per slot.
    Plugged,
    /// Detach. At most one per slot: the host asks once.
    Unplug,
    /// Free a connection's place. At most one per place: the host says it once.
    ConnectionFree(Flow),
}

/// Work that waits, oldest first; order within a slot is kept.
#[derive(Debug, Default)]
pub(super) struct Deferred {
    queue: VecDeque<(u32, u64, Work)>,
}

impl Deferred {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
    pub(super) fn has(&self, slot: u32) -> bool {
        self.queue.iter().any(|(s, ..)| *s == slot)
    }
    /// Forgets all that waits for a slot.
    pub(super) fn forget(&mut self, slot: u32) {
        self.queue.retain(|(s, ..)| *s != slot);
    }
}

impl<H: Host> Server<H> {
    pub(super) fn defer_frame(&mut self, slot: u32, frame: &[u8]) {
        if self.deferred.queue.len() >= DEFERRED_FRAMES_MAX {
            self.counters.deferred_lost += 1;
        } else {
            self.defer(slot, Work::Frame(frame.to_vec()));
        }
    }

    pub(super) fn defer_plugged(&mut self, slot: u32) {
        self.defer(slot, Work::Plugged);
    }

    pub(super) fn defer_unplug(&mut self, slot: u32) {
        self.defer(slot, Work::Unplug);
    }

    pub(super) fn defer_connection_free(&mut self, slot: u32, flow: Flow) {
        self.defer(slot, Work::ConnectionFree(flow));
    }

    fn defer(&mut self, slot: u32, work: Work) {
        self.counters.deferred += 1;
        let incarnation = self.tcp.incarnation(slot).unwrap_or(0);
        self.deferred.queue.push_back((slot, incarnation, work));
    }

    /// Tries each piece of work once. A slice that is still held keeps all of its work, in order.
    pub(super) fn retry_deferred(&mut self) {
        let mut still = Vec::new();
        for _ in 0..self.deferred.queue.len() {
            let Some((slot, incarnation, work)) = self.deferred.queue.pop_front() else { return };
            if self.tcp.incarnation(slot) != Some(incarnation) {
                continue;
            }
            let done = !still.contains(&slot) && self.do_deferred(slot, incarnation, &work);
            if !done && self.tcp.incarnation(slot) == Some(incarnation) {
                still.push(slot);
                self.deferred.queue.push_back((slot, incarnation, work));
            }
        }
    }

    fn do_deferred(&mut self, slot: u32, incarnation: u64, work: &Work) -> bool {
        match work {
            Work::Frame(frame) => {
                let Some(segment) = Segment::parse(frame, self.params.ip) else { return true };
                match self.tcp.attached.of_flow(segment.flow) {
                    Some((slot, place)) => self.deliver(slot, place, &segment).is_ok(),
                    // The first segment of another connection of the slice.
                    None if segment.is_pure_syn() => self.join(slot, &segment).is_ok(),
                    None => true,
                }
            }
            Work::Plugged => {
                let done = self.run(slot, None, TcpEvent::Plugged).is_ok();
                if done {
                    self.tcp.wire.tell(GuestMessage::Plugged { slot, incarnation, status: 0 });
                }
                done
            }
            Work::Unplug => self.try_unplug(slot, incarnation),
            Work::ConnectionFree(flow) => self.try_connection_free(slot, *flow),
        }
    }
}
