//! The end of connections: what a process has left behind is sent, and the slice closed when the client has it all.

use super::agent::Agent;
use super::places::Stage;
use escape_capsule::SliceKey;
use escape_process::{tcp_flag, wall_us};
use std::fs;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// How often connections that end are looked at.
pub const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A client that has not taken the end by then gets a reset.
const CLOSING_MAX: Duration = Duration::from_secs(60);
/// A handshake that is not finished by then is given up.
const OPENING_MAX: Duration = Duration::from_secs(5);
/// Connections as the kernel lists them, in this thread's network.
const CONNECTIONS: &str = "/proc/thread-self/net/tcp";
/// `TCP_SYN_RECV` there.
const SYN_RECEIVED: &str = "03";

impl Agent {
    /// Looks at all connections that end.
    pub fn look_at_closing(&mut self) {
        for key in self.closing.clone() {
            self.go_on_closing(key);
        }
        let Self { places, closing, .. } = self;
        closing.retain(|key| places.get_mut(*key).is_some_and(|place| matches!(place.stage, Stage::Closing { .. })));
    }

    /// Whether there are any.
    pub fn has_closing(&self) -> bool {
        !self.closing.is_empty()
    }

    /// Sends what is left of a connection, reads what its client still says, and ends the slice when both sides are done.
    pub(super) fn go_on_closing(&mut self, key: SliceKey) {
        let Some(place) = self.places.get_mut(key) else { return };
        let too_long = place.since.elapsed() > CLOSING_MAX;
        if !matches!(place.stage, Stage::Closing { .. }) {
            return;
        }
        let Some(Stage::Closing { mut wire }) = self.places.take(key) else { return };
        let slot = self.memory.slot(key.slot).map(|slot| slot.cast::<u8>());
        let before = self.with_ref(key, |state| {
            let before = state.tcp.published();
            if let Some(slot) = slot {
                // SAFETY: a reference is held and no process has the slice; `state` is the one reference into the slot.
                unsafe { wire.fill(slot, state) };
                state.tcp.input_start = state.tcp.input_end;
            }
            state.tcp.flags |= tcp_flag::END_WRITTEN;
            state.tcp.seen_us = state.tcp.seen_us.max(wall_us());
            wire.trim(state);
            (before, state.tcp.published(), *state)
        });
        let mut over = too_long;
        if let (Some((was, is, state)), Some(slot)) = (before, slot) {
            // SAFETY: only this agent writes to the slot.
            let sent = unsafe { wire.flush(slot, &state) };
            over |= sent == escape_process::WireFlow::Broken || wire.is_over(&state.tcp);
            if was != is {
                self.host.send(escape_abi::GuestMessage::Changed { slot: key.slot });
            }
        }
        over |= escape_tcp::is_closed(wire.as_fd()).unwrap_or(true);
        if !over {
            return self.places.set(key, Stage::Closing { wire });
        }
        let socket = wire.into_socket();
        if too_long {
            self.places.set(key, Stage::Over { socket: None });
            self.reset(key, &socket);
        } else {
            self.places.set(key, Stage::Over { socket: Some(socket) });
        }
        self.publish_end(key);
    }

    /// Gives up handshakes that nobody finishes, so that a flood of SYNs does not keep the slots.
    pub fn look_at_openings(&mut self) {
        let now = Instant::now();
        let is_old = |since: Instant| now.saturating_duration_since(since) > OPENING_MAX;
        let old = self.places.keys(|place| matches!(place.stage, Stage::Opening) && is_old(place.since));
        if old.is_empty() {
            return;
        }
        let known = open_connections(&fs::read_to_string(CONNECTIONS).unwrap_or_default());
        for key in old {
            let Some(place) = self.places.get_mut(key) else { continue };
            if known.contains(&(place.flow.ip, place.flow.port, place.flow.service_port)) {
                continue; // Its process is slow to accept it.
            }
            self.places.set(key, Stage::Over { socket: None });
            self.publish_end(key);
        }
    }
}

/// Client's address, its port and ours of all connections whose handshake is finished (proc(5), /proc/net/tcp).
fn open_connections(listing: &str) -> Vec<([u8; 4], u16, u16)> {
    let mut found = Vec::new();
    for line in listing.lines().skip(1) {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (Some(local), Some(peer), Some(state)) = (words.next(), words.next(), words.next()) else { continue };
        if state == SYN_RECEIVED {
            continue;
        }
        let end = |text: &str| {
            let (ip, port) = text.split_once(':')?;
            let ip = u32::from_str_radix(ip, 16).ok()?.to_ne_bytes();
            Some((ip, u16::from_str_radix(port, 16).ok()?))
        };
        if let (Some((_, service_port)), Some((ip, port))) = (end(local), end(peer)) {
            found.push((ip, port, service_port));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_list_is_read() {
        let listing = "  sl  local_address rem_address   st tx_queue rx_queue\n   \
                       0: 0A004D0A:0050 00000000:0000 0A 00000000:00000000\n   \
                       1: 0A004D0A:0050 01014D0A:9C40 01 00000000:00000000\n   \
                       2: 0A004D0A:0050 01014D0A:9C41 03 00000000:00000000\nnonsense\n";
        let open = open_connections(listing);
        assert!(open.contains(&([10, 77, 1, 1], 40_000, 80)) && !open.iter().any(|c| c.1 == 40_001), "{open:?}");
    }
}
