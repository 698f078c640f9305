//! The TCP capsule of a connection that the kernel holds, as it lies in the slice.

use crate::slot::layout::TX_SIZE;
use escape_abi::message::{Flow, opening_flag};
use escape_abi::{ConnectionNumbers, OpeningNumbers};
use escape_tcp::{TcpCapsule, TcpOptions, Window};
use std::net::{Ipv4Addr, SocketAddrV4};

/// Bits of [`TcpState::flags`].
pub mod tcp_flag {
    /// A process has the connection.
    pub const ADOPTED: u32 = 1;
    /// The program has written its last byte.
    pub const END_WRITTEN: u32 = 2;
    /// The client's end was read.
    pub const END_READ: u32 = 4;
    /// The connection is over: finished both ways, or broken.
    pub const OVER: u32 = 8;
    /// All that can be.
    pub const ALL: u32 = 15;
}

/// Our clock for timestamps goes on by so much at each plug, in milliseconds: machines' clocks differ, and a client drops segments
/// whose timestamps go back (RFC 7323, section 5.3), and takes those that are ahead.
const CLOCK_MARGIN_MS: u32 = 10_000;
/// Our window, and the largest that the client is taken to have told, as a restored kernel begins with them.
const RECEIVE_WINDOW: u32 = 65_535;

/// Numbers only: any bytes are a value of it.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct TcpState {
    /// The connection.
    pub flow: Flow,
    /// Our address.
    pub service_ip: [u8; 4],
    /// Bits of [`tcp_flag`].
    pub flags: u32,
    /// What the SYNs said.
    pub numbers: OpeningNumbers,
    /// Bytes that the program has written in all.
    pub written: u64,
    /// Of these, bytes that the client is known to have.
    pub acknowledged: u64,
    /// Bytes that were read from the kernel in all; the last of them may wait in the input buffer.
    pub read: u64,
    /// Wall clock at the opening, microseconds since 1970, less what plugs have added.
    pub opened_us: u64,
    /// Latest wall clock that the slice has seen, microseconds since 1970.
    pub seen_us: u64,
    /// Bytes beyond `acknowledged` that the client takes. What it takes in all grows and never shrinks, so that a kernel which goes on with
    /// this sends nothing for which the client has no room.
    pub window: u32,
    /// Zero.
    pub reserved: u32,
    /// Where the unconsumed input begins in its buffer.
    pub input_start: u32,
    /// Where it ends.
    pub input_end: u32,
}

impl TcpState {
    /// A connection whose SYN was just answered.
    pub const fn opened(flow: Flow, service_ip: [u8; 4], numbers: OpeningNumbers, wall_us: u64) -> Self {
        Self {
            flow,
            service_ip,
            flags: 0,
            numbers,
            written: 0,
            acknowledged: 0,
            read: 0,
            opened_us: wall_us,
            seen_us: wall_us,
            // Of a SYN, whose window is never scaled.
            window: numbers.window as u32,
            reserved: 0,
            input_start: 0,
            input_end: 0,
        }
    }

    /// One of [`tcp_flag`] is set.
    pub const fn is(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// Bytes written that the client is not known to have.
    pub const fn unacknowledged(&self) -> usize {
        self.written.wrapping_sub(self.acknowledged) as usize
    }

    /// Nothing was read of the client and nothing of what was written was acknowledged: it may not have heard the answer to its SYN.
    pub const fn is_unheard(&self) -> bool {
        self.read == 0 && self.acknowledged == 0 && self.flags & (tcp_flag::END_READ | tcp_flag::OVER) == 0
    }

    /// What is published of the connection: what came before `rcv_nxt` is in the slice, and so is what comes before `snd_nxt`.
    pub const fn published(&self) -> ConnectionNumbers {
        let end_written = self.is(tcp_flag::END_WRITTEN) as u32;
        ConnectionNumbers {
            rcv_nxt: self.expected(),
            snd_nxt: self.numbers.iss.wrapping_add(1).wrapping_add(self.written as u32).wrapping_add(end_written),
        }
    }

    /// The next number expected of the client; its end counts.
    const fn expected(&self) -> u32 {
        let end_read = self.is(tcp_flag::END_READ) as u32;
        self.numbers.irs.wrapping_add(1).wrapping_add(self.read as u32).wrapping_add(end_read)
    }

    /// Lengths are possible: the state may have come from another machine.
    pub const fn is_sound(&self, input_size: u32) -> bool {
        let rings = self.written >= self.acknowledged && self.unacknowledged() <= TX_SIZE;
        let input = self.input_start <= self.input_end && self.input_end <= input_size;
        let scales = self.numbers.scale_of_client <= 14 && self.numbers.scale_of_service <= 14;
        rings && input && scales && self.flags & !tcp_flag::ALL == 0 && self.numbers.mss != 0
    }

    /// Our clock for timestamps, which no client has seen ahead of this.
    fn clock(&self, wall_us: u64) -> u32 {
        let elapsed_us = wall_us.max(self.seen_us).saturating_sub(self.opened_us);
        self.numbers.clock.wrapping_add((elapsed_us / 1000) as u32).wrapping_add(CLOCK_MARGIN_MS)
    }

    /// What a kernel needs to go on: `unsent` is what the client is not known to have, and goes out at once, so that whatever the client
    /// acknowledges was sent.
    pub fn capsule(&self, unsent: Vec<u8>, wall_us: u64) -> TcpCapsule {
        let numbers = &self.numbers;
        let has = |flag| numbers.flags & flag != 0;
        let expected = self.expected();
        TcpCapsule {
            local: SocketAddrV4::new(Ipv4Addr::from(self.service_ip), self.flow.service_port),
            peer: SocketAddrV4::new(Ipv4Addr::from(self.flow.ip), self.flow.port),
            written: numbers.iss.wrapping_add(1).wrapping_add(self.written as u32),
            expected,
            options: TcpOptions {
                mss: numbers.mss,
                sack: has(opening_flag::SACK),
                scale: has(opening_flag::SCALE).then_some((numbers.scale_of_client, numbers.scale_of_service)),
                timestamp: has(opening_flag::TIMESTAMPS).then(|| self.clock(wall_us)),
            },
            window: Window {
                told_by: expected,
                send: self.window,
                send_max: self.window.max(RECEIVE_WINDOW),
                receive: RECEIVE_WINDOW,
                told_at: expected,
            },
            unread: Vec::new(),
            unacknowledged: Vec::new(),
            unsent,
        }
    }

    /// The slice goes on here: its clock has moved by the margin for good.
    pub const fn plugged(&mut self) {
        self.opened_us = self.opened_us.saturating_sub(CLOCK_MARGIN_MS as u64 * 1000);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wall clock at the opening.
    const BEGUN: u64 = 1_000_000_000;

    fn state() -> TcpState {
        let numbers = OpeningNumbers {
            iss: u32::MAX - 2,
            irs: u32::MAX,
            clock: 5_000,
            mss: 1460,
            flags: opening_flag::TIMESTAMPS,
            ..OpeningNumbers::default()
        };
        TcpState::opened(Flow { ip: [10, 0, 0, 2], port: 9, service_port: 80 }, [10, 0, 0, 1], numbers, BEGUN)
    }

    #[test]
    fn published_numbers_wrap_and_count_both_ends() {
        let mut s = state();
        assert_eq!(s.published(), ConnectionNumbers { rcv_nxt: 0, snd_nxt: u32::MAX - 1 });
        (s.written, s.read) = (10, 1 << 33 | 7);
        assert_eq!(s.published(), ConnectionNumbers { rcv_nxt: 7, snd_nxt: 8 });
        s.flags = tcp_flag::END_READ | tcp_flag::END_WRITTEN;
        assert_eq!(s.published(), ConnectionNumbers { rcv_nxt: 8, snd_nxt: 9 });
        let capsule = s.capsule(vec![1; 10], 0);
        assert_eq!((capsule.expected, capsule.written), (8, 8), "our end is written anew");
    }

    #[test]
    fn the_clock_of_timestamps_never_goes_back() {
        let mut s = state();
        let clock = |s: &TcpState, now| s.capsule(Vec::new(), now).options.timestamp.unwrap_or(0);
        assert_eq!(clock(&s, BEGUN + 2_000_000), 5_000 + 2_000 + 10_000);
        s.seen_us = BEGUN + 8_000_000;
        assert_eq!(clock(&s, BEGUN + 2_000_000), 5_000 + 8_000 + 10_000, "this machine's clock is behind");
        let before = clock(&s, BEGUN + 8_000_000);
        s.plugged();
        assert_eq!(clock(&s, BEGUN + 8_000_000), before + 10_000, "a second failover begins where the first one was");
    }

    #[test]
    fn impossible_lengths_are_not_sound() {
        let sound = state();
        assert!(sound.is_sound(100));
        for wrong in [
            TcpState { acknowledged: 1, ..sound },
            TcpState { written: TX_SIZE as u64 + 1, ..sound },
            TcpState { input_start: 2, input_end: 1, ..sound },
            TcpState { input_end: 101, ..sound },
            TcpState { flags: 16, ..sound },
            TcpState { numbers: OpeningNumbers { scale_of_client: 15, ..sound.numbers }, ..sound },
            TcpState { numbers: OpeningNumbers { mss: 0, ..sound.numbers }, ..sound },
        ] {
            assert!(!wrong.is_sound(100), "{wrong:?}");
        }
    }
}
