//! The TCP capsule's state in the slot.

use crate::frame::{ACK, Segment};
use crate::seq;
use crate::slot::Rings;
use crate::tcp::retransmit::Retransmit;
use crate::wire::Emitted;
use core::sync::atomic::{AtomicU32, Ordering};
use escape_abi::message::Flow;
use smoltcp::iface::{SocketHandle, SocketSet, SocketStorage};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Duration;

/// smoltcp's timestamp generator is a bare `fn`, so the present slice's value is left here before each poll.
/// (Tests with several servers in one process share it and take turns: `turn_lock` in `tests/support/guest.rs`.)
static TSVAL: AtomicU32 = AtomicU32::new(0);

fn tsval() -> u32 {
    TSVAL.load(Ordering::Relaxed)
}

/// Delay of an acknowledgement that no reply carries.
pub(crate) const ACK_DELAY_MS: u64 = 10;

/// Part of a ring: `len` bytes from `start` on, perhaps wrapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct RingPart {
    pub start: u32,
    pub len: u32,
}

/// State of one connection.
#[repr(C, align(64))]
pub(crate) struct TcpState {
    /// The socket. Its only pointers: into this slot's rings, and [`tsval`], which is set anew at plug.
    sockets: [SocketStorage<'static>; 1],
    pub retransmit: Retransmit,
    /// Bytes that the session has read.
    consumed: u64,
    /// Slice clock when the peer was last heard of.
    pub heard_at: i64,
    /// Slice clock when the present [`phase`] began.
    pub since: i64,
    /// The peer's initial sequence number.
    irs: u32,
    /// Behind the furthest byte that the peer ever sent: if beyond `rcv_nxt`, there may be data out of order in the ring.
    furthest: u32,
    /// Next sequence number that we send for the first time; says nothing before the SYN.
    snd_nxt: u32,
    acked_sent: u32,
    fin_received: u32,
    /// 1: the connection was given up in silence.
    pub abandoned: u32,
    /// Keep-alive probes since the peer was last heard of.
    pub probes: u32,
    /// Slice clock at which the peer is told where we are after a plug; 0: it has been told.
    pub greet_at: i64,
    /// Bytes received in order and not read.
    unread: u32,
    rx: RingPart,
    tx: RingPart,
    /// Where the next byte to send goes in its ring.
    tx_end: u32,
    /// One of [`phase`].
    pub phase: u32,
    /// 1: the session has closed, and our FIN waits until all is acknowledged.
    close_wanted: u32,
    // What follows changes seldom: the lines before it are in every checkpoint.
    pub flow: Flow,
    pub peer_mac: [u8; 6],
    /// TCP timestamps are this plus the slice's clock in milliseconds.
    pub ts_base: u32,
    /// How far smoltcp's time is ahead of the slice's clock: the jumps that made it send early.
    pub skew: i64,
    pub rings: Rings,
}

/// What limits the time that a connection may take; also for those who must not touch the socket.
pub(crate) mod phase {
    /// The handshake is not over.
    pub(crate) const EMBRYONIC: u32 = 0;
    /// Neither of the others.
    pub(crate) const OPEN: u32 = 1;
    /// We have closed, the peer has not (FIN-WAIT-2).
    pub(crate) const HALF_CLOSED: u32 = 2;
}

impl TcpState {
    /// A listening socket in the slot at `base`: the SYN that it is fed next makes it that peer's.
    ///
    /// # Safety
    /// `base` is the address of a mapped slot whose rings of that place nobody else uses; the state must be kept in that slot.
    pub(crate) unsafe fn new(base: *mut u8, rings: Rings, syn: &Segment<'_>, ts_base: u32, clock: i64) -> Self {
        let ring = |at: u32, size: u32| -> &'static mut [u8] {
            // SAFETY: inside the slot, by `Rings::of`; the caller vouches for the slot.
            unsafe { core::slice::from_raw_parts_mut(base.add(at as usize), size as usize) }
        };
        let (rx, tx) = (ring(rings.rx_at, rings.rx_size), ring(rings.tx_at, rings.tx_size));
        let mut socket = Socket::new(SocketBuffer::new(rx), SocketBuffer::new(tx));
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(Some(Duration::from_millis(ACK_DELAY_MS)));
        socket.set_tsval_generator(Some(tsval));
        // Fails for port 0 only, which is no service; the slice then ends with its first segment.
        let _ = socket.listen(syn.flow.service_port);
        let mut state = Self {
            flow: syn.flow,
            peer_mac: syn.peer_mac,
            ts_base,
            skew: 0,
            rings,
            sockets: [SocketStorage::EMPTY],
            retransmit: Retransmit::default(),
            consumed: 0,
            heard_at: clock,
            since: clock,
            irs: syn.seq,
            furthest: syn.seq.wrapping_add(1),
            snd_nxt: 0,
            acked_sent: syn.seq,
            fin_received: 0,
            abandoned: 0,
            probes: 0,
            greet_at: 0,
            unread: 0,
            rx: RingPart::default(),
            tx: RingPart::default(),
            tx_end: 0,
            phase: phase::EMBRYONIC,
            close_wanted: 0,
        };
        state.with_set(|set| set.add(socket));
        state
    }

    /// Calls `f` with the set of this one socket.
    pub(crate) fn with_set<R>(&mut self, f: impl FnOnce(&mut SocketSet<'static>) -> R) -> R {
        let sockets = &raw mut self.sockets;
        // SAFETY: smoltcp ties the set's lifetime to that of the socket's buffers, which lie in the slot, for good. The set does not
        // outlive this call (`f` gets it by reference), during which `self` is borrowed exclusively.
        let sockets: &'static mut [SocketStorage<'static>] = unsafe { &mut *sockets };
        f(&mut SocketSet::new(sockets))
    }

    /// Calls `f` with the socket.
    pub(crate) fn with_socket<R>(&mut self, f: impl FnOnce(&mut Socket<'static>) -> R) -> R {
        self.with_set(|set| f(set.get_mut(SocketHandle::default())))
    }

    /// The socket and the counters that a [`crate::tcp::Pipe`] keeps.
    pub(crate) fn with_pipe<R>(&mut self, base: usize, f: impl FnOnce(&mut crate::tcp::Pipe<'_>) -> R) -> R {
        let (mut consumed, mut tx_end, mut wanted) = (self.consumed, self.tx_end, self.close_wanted);
        let tx = TxRing { base: base + self.rings.tx_at as usize, size: self.rings.tx_size };
        let r = self
            .with_socket(|socket| f(&mut crate::tcp::Pipe::new(socket, &mut consumed, &mut tx_end, &mut wanted, tx)));
        (self.consumed, self.tx_end, self.close_wanted) = (consumed, tx_end, wanted);
        r
    }

    /// Another image may have the generator elsewhere: set it anew.
    pub(crate) fn reattach(&mut self) {
        self.with_socket(|s| {
            if s.timestamp_enabled() {
                s.set_tsval_generator(Some(tsval));
            }
        });
    }

    /// The timestamp of the segments that the next poll makes.
    pub(crate) fn set_tsval(value: u32) {
        TSVAL.store(value, Ordering::Relaxed);
    }

    /// Everything from the peer that lies in the slice's state: what comes before this number is received in order.
    pub(crate) fn rcv_nxt(&self) -> u32 {
        let bytes = self.consumed as u32; // modulo 2^32, as sequence numbers are
        self.irs.wrapping_add(1).wrapping_add(bytes).wrapping_add(self.unread).wrapping_add(self.fin_received)
    }
    /// The peer's FIN is in the slice's state.
    pub(crate) const fn fin_received(&self) -> bool {
        self.fin_received != 0
    }
    pub(crate) const fn snd_nxt(&self) -> u32 {
        self.snd_nxt
    }
    pub(crate) const fn irs(&self) -> u32 {
        self.irs
    }
    /// The last acknowledgement that left says less than was received.
    pub(crate) fn owes_ack(&self) -> bool {
        self.acked_sent != self.rcv_nxt()
    }
    /// Moves to a phase, if it is another.
    pub(crate) fn enter_phase(&mut self, socket_state: State, clock: i64) {
        let phase = match socket_state {
            State::SynReceived => phase::EMBRYONIC,
            State::FinWait2 => phase::HALF_CLOSED,
            _ => phase::OPEN,
        };
        if phase != self.phase {
            (self.phase, self.since) = (phase, clock);
        }
    }
    /// Parts of the receive and the transmit ring that are state.
    pub(crate) const fn live_rings(&self) -> (RingPart, RingPart) {
        (self.rx, self.tx)
    }

    /// Notes what a segment says, before smoltcp has it.
    pub(crate) fn note_segment(&mut self, s: &Segment<'_>, clock: i64) {
        self.heard_at = clock;
        self.probes = 0;
        if s.flags & ACK != 0 && !seq::before(self.snd_nxt, s.ack) {
            self.retransmit.on_ack(s.ack, clock);
        }
        let end = s.seq.wrapping_add(s.payload_len);
        // Out of reach of the window: smoltcp drops it.
        if s.payload_len > 0 && end.wrapping_sub(self.rcv_nxt()) <= self.rings.rx_size {
            self.furthest = seq::later(self.furthest, end);
        }
    }

    /// Notes what went out.
    pub(crate) fn note_emitted(&mut self, e: &Emitted, clock: i64) {
        if e.frames > 0 {
            self.greet_at = 0;
        }
        if let Some(iss) = e.syn {
            self.snd_nxt = iss;
            self.retransmit.begin(iss);
        }
        if let Some(end) = e.seq_end.filter(|end| seq::before(self.snd_nxt, *end)) {
            self.snd_nxt = end;
            self.retransmit.on_new_data(end, clock);
        }
        self.acked_sent = e.ack.unwrap_or(self.acked_sent);
    }

    /// Looks where the rings' live parts are now. `base` is the slot's address. smoltcp does not tell, but lends its buffers:
    /// the address of what it lends is the position.
    pub(crate) fn observe(&mut self, base: usize) -> State {
        let Rings { rx_at, rx_size, tx_at, tx_size } = self.rings;
        let rx_base = base + rx_at as usize;
        let tx_ring = TxRing { base: base + tx_at as usize, size: tx_size };
        let mut tx_end = self.tx_end;
        let (state, unread, rx_start, tx_len) = self.with_socket(|s| {
            // Before `send` below, which moves an empty ring to its start.
            let rx_start = s.recv(|b| (0, b.as_ptr() as usize)).ok();
            tx_end = write_position(s, tx_ring).unwrap_or(tx_end);
            (s.state(), s.recv_queue() as u32, rx_start, s.send_queue() as u32)
        });
        self.tx_end = tx_end;
        self.unread = unread;
        if matches!(state, State::CloseWait | State::LastAck | State::Closing | State::TimeWait) {
            self.fin_received = 1;
        }
        self.tx = RingPart { start: tx_end.wrapping_sub(tx_len) % tx_size, len: tx_len };
        // Without a position nothing can be read any more: neither in order nor out of order.
        self.rx = rx_start.map_or(RingPart::default(), |at| RingPart {
            start: (at - rx_base) as u32 % rx_size,
            len: unread + self.out_of_order_reach(),
        });
        state
    }

    /// Bytes behind the unread ones that may hold data out of order (with holes).
    fn out_of_order_reach(&self) -> u32 {
        let next = self.rcv_nxt();
        let beyond = self.furthest.wrapping_sub(next);
        if seq::before(next, self.furthest) { beyond.min(self.rings.rx_size - self.unread) } else { 0 }
    }
}

/// A transmit ring in memory.
#[derive(Clone, Copy)]
pub(crate) struct TxRing {
    base: usize,
    size: u32,
}

/// Where smoltcp puts the next byte to send, from the ring's start; `None` when it takes none any more.
pub(crate) fn write_position(socket: &mut Socket<'static>, ring: TxRing) -> Option<u32> {
    let at = socket.send(|b| (0, b.as_ptr() as usize)).ok()?;
    Some((at - ring.base) as u32 % ring.size)
}
