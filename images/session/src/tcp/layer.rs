//! The TCP layer of this guest: all connections that are attached here.

use crate::clock::{MS, SECOND};
use crate::frame::{FIN, HEADERS_MAX, RST, SYN, Segment};
use crate::host::Host;
use crate::memory::Memory;
use crate::slice_slot::{Connection, SliceSlot};
use crate::slot::{MAGIC, TCP_LAYER};
use crate::tcp::TcpState;
use crate::tcp::attachments::Attachments;
use crate::tcp::state::{ACK_DELAY_MS, phase};
use crate::wire::{OnePacket, Wire};
use escape_capsule::{CapsuleHandle, CapsuleId, CapsuleList, LayerId, SliceError, SliceKey};
use smoltcp::iface::{Config, Interface, PollResult};
use smoltcp::socket::tcp::State;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{HardwareAddress, IpCidr, Ipv4Address};

/// A connection request that is not answered is given up.
const EMBRYONIC: i64 = 5 * SECOND;
/// A silent peer is asked whether it is still there after this, then every [`PROBE_EVERY`], [`PROBES_MAX`] times.
const PROBE_AFTER: i64 = 60 * SECOND;
const PROBE_EVERY: i64 = 10 * SECOND;
const PROBES_MAX: u32 = 5;
/// A peer that acknowledges nothing is given up.
const SILENCE_MAX: i64 = 120 * SECOND;
/// A peer that does not close its side after we closed ours is given up (FIN-WAIT-2 has no end of its own).
const HALF_CLOSED_MAX: i64 = 30 * SECOND;

/// A plugged connection with nothing outstanding tells its peer where it is after this, unless it has sent something by then: an
/// acknowledgement may have been lost with the last owner. Not at once, because slices whose peers wait are plugged meanwhile, and far
/// below the 200 ms after which a peer would send again by itself (TCP-FAILOVER.md, 4).
const GREET_AFTER: i64 = 25 * MS;
/// Slots that are greeted at different times, a millisecond apart: thousands of probes at once would be in everybody's way.
const GREET_SPREAD: u32 = 64;

/// Deadlines of smoltcp that are passed over at most to make it send.
const JUMPS_MAX: u32 = 4;

/// Why a slice is run.
#[derive(Clone, Copy)]
pub(crate) enum TcpEvent<'a> {
    /// A segment came in.
    Segment(&'a Segment<'a>),
    /// A deadline may have passed.
    Timer,
    /// It was plugged: whatever its peer may have missed goes out now.
    Plugged,
    /// Ask the peer where it is.
    Challenge,
    /// What the session waited for is there.
    Resume,
}

/// The layer.
pub(crate) struct TcpLayer<H: Host> {
    iface: Interface,
    pub wire: Wire<H>,
    pub attached: Attachments,
    memory: Memory,
    image_id: u64,
    seed: u64,
    ip: [u8; 4],
}

impl<H: Host> TcpLayer<H> {
    pub(crate) fn new(memory: Memory, host: H, ip: [u8; 4], mac: [u8; 6], image_id: u64, seed: u64) -> Self {
        let mut wire = Wire::new(host, mac);
        Self {
            iface: interface(&mut wire, ip, seed),
            wire,
            attached: Attachments::new(memory.n_slots(), seed),
            memory,
            image_id,
            seed,
            ip,
        }
    }

    /// Whether inbound checksums were verified by somebody else.
    pub(crate) fn trust_rx_checksums(&mut self, trust: bool) {
        self.wire.trust_rx_checksums(trust);
        // smoltcp asks a device for its capabilities once.
        self.iface = interface(&mut self.wire, self.ip, self.seed.wrapping_add(1));
    }

    pub(crate) fn incarnation(&self, slot: u32) -> Option<u64> {
        self.attached.incarnation(slot)
    }

    /// Attaches a slice, without a connection yet. Its slot must be free.
    pub(crate) fn attach(&mut self, key: SliceKey, clock: i64) -> bool {
        self.attached.attach(key, clock, self.wire.host.now_us())
    }

    /// A challenge may be sent now.
    pub(crate) fn may_challenge(&mut self, slot: u32) -> bool {
        self.attached.may_challenge(slot, self.wire.host.now_us())
    }

    /// Before every poll of a slice: its clock, its timestamp, its peer's address.
    pub(crate) fn enter(&mut self, c: &mut Connection<'_>) {
        let offset = self.attached.offset(c.header.key.slot);
        c.header.advance(self.wire.host.now_us(), offset);
        let ms = (c.header.clock / MS) as u32; // modulo 2^32, as timestamps are
        TcpState::set_tsval(c.tcp.ts_base.wrapping_add(ms));
        self.wire.begin(c.tcp.peer_mac);
    }

    /// What the event asks of TCP, before the session runs. Returns whether something was sent again.
    pub(crate) fn handle(&mut self, c: &mut Connection<'_>, event: TcpEvent<'_>) -> bool {
        match event {
            TcpEvent::Segment(s) => {
                c.tcp.note_segment(s, c.header.clock);
                if fin_alone_again(c.tcp, s) {
                    return false;
                }
                let mut headers = [0; HEADERS_MAX];
                let bare = if fin_behind_known(c.tcp, s) { s.behind_payload(&mut headers) } else { None };
                let now = Instant::from_micros(c.stack_now());
                let mut device = OnePacket { packet: Some(bare.unwrap_or(s.packet)), wire: &mut self.wire };
                c.tcp.with_set(|set| self.iface.poll_ingress_single(now, &mut device, set));
                false
            }
            TcpEvent::Timer => self.timers(c),
            TcpEvent::Plugged => {
                c.tcp.reattach();
                if outstanding(c.tcp) {
                    return self.force_output(c);
                }
                c.tcp.greet_at = c.header.clock + GREET_AFTER + i64::from(c.header.key.slot % GREET_SPREAD) * MS;
                false
            }
            TcpEvent::Challenge => {
                self.probe(c);
                false
            }
            TcpEvent::Resume => false,
        }
    }

    fn timers(&mut self, c: &mut Connection<'_>) -> bool {
        let clock = c.header.clock;
        let silence = clock - c.tcp.heard_at;
        let give_up = match c.tcp.phase {
            phase::EMBRYONIC => clock - c.tcp.since >= EMBRYONIC,
            phase::HALF_CLOSED => clock - c.tcp.since >= HALF_CLOSED_MAX,
            _ => silence >= SILENCE_MAX || (c.tcp.probes >= PROBES_MAX && silence >= probe_at(PROBES_MAX)),
        };
        if give_up {
            c.tcp.abandoned = 1;
            return false;
        }
        if c.tcp.retransmit.due_at != 0 && clock >= c.tcp.retransmit.due_at {
            return self.force_output(c);
        }
        if c.tcp.greet_at != 0 && clock >= c.tcp.greet_at {
            c.tcp.greet_at = 0;
            self.probe(c);
        }
        if c.tcp.retransmit.due_at == 0 && silence >= probe_at(c.tcp.probes) {
            c.tcp.probes += 1;
            self.probe(c);
        }
        false
    }

    /// All output that smoltcp has now.
    pub(crate) fn egress(&mut self, c: &mut Connection<'_>) {
        let now = Instant::from_micros(c.stack_now());
        let mut device = OnePacket { packet: None, wire: &mut self.wire };
        c.tcp.with_set(|set| while self.iface.poll_egress(now, &mut device, set) != PollResult::None {});
    }

    /// Sends at once whatever the peer may have missed: unacknowledged bytes, SYN or FIN, or else the present ACK and window.
    /// Egress was drained before. Returns whether something that occupies sequence space was sent again.
    fn force_output(&mut self, c: &mut Connection<'_>) -> bool {
        if !outstanding(c.tcp) {
            self.probe(c);
            return false;
        }
        let before = self.wire.emitted;
        // Perhaps a delayed ACK first, then the retransmission or window probe.
        for _ in 0..JUMPS_MAX {
            if !self.jump(c) || self.wire.emitted.seq_frames > before.seq_frames {
                break;
            }
        }
        if self.wire.emitted.frames == before.frames {
            // smoltcp has no timer although something is out: its retransmission fell due while the window was closed, and the update
            // that opens the window was lost. The answer to a probe brings it.
            self.keep_alive(c);
        }
        true
    }

    /// Lets smoltcp's clock jump to its next deadline and sends what it has then. `false` = it has no deadline.
    fn jump(&mut self, c: &mut Connection<'_>) -> bool {
        let now = Instant::from_micros(c.stack_now());
        let Some(at) = c.tcp.with_set(|set| self.iface.poll_at(now, set)) else { return false };
        c.tcp.skew += (at - now).total_micros() as i64 * i64::from(at > now);
        self.egress(c);
        true
    }

    /// Sends one old byte with the present ACK and window: the peer's answer tells where it is (RFC 9293, 3.8.4).
    fn probe(&mut self, c: &mut Connection<'_>) {
        let can = |s: State| matches!(s, State::Established | State::CloseWait | State::FinWait2);
        if c.tcp.with_socket(|s| can(s.state())) {
            self.keep_alive(c);
        }
    }

    fn keep_alive(&mut self, c: &mut Connection<'_>) {
        let before = self.wire.emitted.frames;
        self.wire.probing = Some(c.tcp.retransmit.una());
        // smoltcp sends a keep-alive at once when the option is set; a long interval keeps it from sending another.
        c.tcp.with_socket(|s| s.set_keep_alive(Some(Duration::from_secs(3600))));
        self.egress(c);
        // Not at once if its timer is still set: for a retransmission that is not needed any more, or since our last probe.
        for _ in 0..JUMPS_MAX {
            if self.wire.emitted.frames > before || !self.jump(c) {
                break;
            }
        }
        c.tcp.with_socket(|s| s.set_keep_alive(None));
        self.wire.probing = None;
    }

    /// After all output: brings the capsule's own state up to date. Returns whether the connection is over.
    pub(crate) fn settle(&mut self, c: &mut Connection<'_>, resent: bool) -> bool {
        let base = c.base;
        let clock = c.header.clock;
        c.tcp.note_emitted(&self.wire.emitted, clock);
        let socket_state = c.tcp.observe(base);
        if socket_state == State::TimeWait && c.tcp.owes_ack() {
            // The slice ends here, so the ACK of the peer's FIN cannot wait for its delay.
            c.tcp.skew += ACK_DELAY_MS as i64 * MS;
            self.egress(c);
            c.tcp.note_emitted(&self.wire.emitted, clock);
            c.tcp.observe(base);
        }
        let out = outstanding(c.tcp);
        let snd_nxt = c.tcp.snd_nxt();
        c.tcp.retransmit.arm(out, resent, snd_nxt, clock);
        c.tcp.enter_phase(socket_state, clock);
        // Listening again = reset during the handshake.
        let over = matches!(socket_state, State::TimeWait | State::Closed | State::Listen);
        over || c.tcp.abandoned != 0
    }

    /// When TCP wants to be run next, in guest time.
    pub(crate) fn deadline(&mut self, c: &mut Connection<'_>) -> i64 {
        let (slot, clock) = (c.header.key.slot, c.header.clock);
        let offset = self.attached.offset(slot);
        let stack_now = c.stack_now();
        let poll = c.tcp.with_set(|set| self.iface.poll_at(Instant::from_micros(stack_now), set));
        let tcp = &*c.tcp;
        let mut at = match tcp.phase {
            phase::EMBRYONIC => tcp.since + EMBRYONIC,
            phase::HALF_CLOSED => tcp.since + HALF_CLOSED_MAX,
            _ if tcp.retransmit.due_at != 0 => tcp.heard_at + SILENCE_MAX,
            _ => tcp.heard_at + probe_at(tcp.probes),
        };
        for due_at in [tcp.retransmit.due_at, tcp.greet_at] {
            if due_at != 0 {
                at = at.min(due_at);
            }
        }
        if let Some(poll) = poll {
            // "At once" can only mean that the way out is full.
            at = at.min((poll.total_micros() - c.tcp.skew).max(clock + MS));
        }
        at.wrapping_sub(offset)
    }

    /// The slot's state, if a slice that this image can read lies there. Reads the header only.
    pub(crate) fn header_ok(&self, key: SliceKey) -> Result<(), &'static str> {
        let Some(state) = self.memory.state(key.slot) else { return Err("no such slot") };
        // SAFETY: the host names a slot only when its memory is there; the header is integers only, so any bytes are one.
        let header = unsafe { (&raw const (*state).header).read() };
        if header.magic != MAGIC || header.key != key || header.closed != 0 {
            return Err("not this slice's header");
        }
        if header.image_id != self.image_id {
            return Err(WRONG_IMAGE);
        }
        if !header.places_ok() {
            return Err("not connections of one slice");
        }
        Ok(())
    }
}

/// The refusal of a slice that another image made.
pub(crate) const WRONG_IMAGE: &str = "made by another image";

/// Silence at which probe number `sent` + 1 is due.
const fn probe_at(sent: u32) -> i64 {
    PROBE_AFTER + PROBE_EVERY * sent as i64
}

/// A duplicate ACK while our FIN is all that is out: it says nothing, and from the third one smoltcp 0.14 makes a fast retransmission of
/// no data, after which it forgets that its FIN was never acknowledged.
fn fin_alone_again(tcp: &mut TcpState, s: &Segment<'_>) -> bool {
    let fin_alone = tcp.with_socket(|socket| {
        socket.send_queue() == 0 && matches!(socket.state(), State::FinWait1 | State::Closing | State::LastAck)
    });
    fin_alone && s.flags & (SYN | FIN | RST) == 0 && s.payload_len == 0 && s.ack.wrapping_add(1) == tcp.snd_nxt()
}

/// A FIN that has not been taken, behind bytes that were: sent again together, because the acknowledgement of the bytes was lost. smoltcp
/// 0.14 takes such a segment for an old one, and drops the FIN with it, however often it comes.
fn fin_behind_known(tcp: &TcpState, s: &Segment<'_>) -> bool {
    s.flags & (SYN | FIN | RST) == FIN
        && s.payload_len > 0
        && !tcp.fin_received()
        && s.seq.wrapping_add(s.payload_len) == tcp.rcv_nxt()
}

/// Something is out that the peer has not acknowledged, or waits for its window.
fn outstanding(tcp: &mut TcpState) -> bool {
    tcp.with_socket(|s| {
        s.send_queue() > 0
            || matches!(s.state(), State::SynReceived | State::FinWait1 | State::Closing | State::LastAck)
    })
}

fn interface<H: Host>(wire: &mut Wire<H>, ip: [u8; 4], seed: u64) -> Interface {
    let mut config = Config::new(HardwareAddress::Ip);
    config.random_seed = seed; // initial sequence numbers
    let mut iface = Interface::new(config, &mut OnePacket { packet: None, wire }, Instant::ZERO);
    iface.update_ip_addrs(|addresses| {
        // There is room for the first address.
        let _ = addresses.push(IpCidr::new(Ipv4Address::from(ip).into(), 8));
    });
    // The next hop does not matter on an IP medium, but smoltcp wants a route to every peer.
    let _ = iface.routes_mut().add_default_ipv4_route(Ipv4Address::from(ip));
    iface
}

impl<H: Host> CapsuleList for TcpLayer<H> {
    fn layer(&self) -> LayerId {
        TCP_LAYER
    }

    fn get_id(&self, handle: CapsuleHandle) -> Option<CapsuleId> {
        let slot = u32::try_from(handle.0).ok()?;
        let incarnation = self.incarnation(slot)?;
        Some(CapsuleId::new(SliceKey { slot, incarnation }, TCP_LAYER))
    }

    fn get_handle(&self, id: CapsuleId) -> Option<CapsuleHandle> {
        let handle = CapsuleHandle(u64::from(id.slice.slot));
        (self.get_id(handle) == Some(id)).then_some(handle)
    }

    fn unplug_capsule(&mut self, id: CapsuleId, _: &mut [u8]) -> Result<usize, SliceError> {
        self.get_handle(id).ok_or(SliceError::Unknown { id })?;
        self.attached.detach(id.slice.slot);
        Ok(0)
    }

    fn plug_capsule(&mut self, id: CapsuleId, _: &[u8]) -> Result<CapsuleHandle, SliceError> {
        self.header_ok(id.slice).map_err(|why| SliceError::Refused { id, why })?;
        let state = self.memory.state(id.slice.slot).ok_or(SliceError::Unknown { id })?;
        // SAFETY: `header_ok`, and the slot is not attached yet, or `attach` says so.
        let mut slice = unsafe { SliceSlot::new(state) };
        let header = *slice.header();
        // The slice's clock stood still since its last event: it goes on from there, whatever this guest's clock says.
        if !self.attach(id.slice, header.clock) {
            return Err(SliceError::Taken { id });
        }
        for place in header.open_places() {
            let flow = slice.connection(place).tcp.flow;
            if !self.attached.attach_flow(id.slice.slot, place, flow) {
                self.attached.detach(id.slice.slot);
                return Err(SliceError::Taken { id });
            }
        }
        Ok(CapsuleHandle(u64::from(id.slice.slot)))
    }

    fn get_ref(&self, handle: CapsuleHandle) -> Result<(), SliceError> {
        let slot = u32::try_from(handle.0).unwrap_or(u32::MAX);
        self.memory.refs().get_ref(slot)
    }

    fn put_ref(&self, handle: CapsuleHandle) {
        let slot = u32::try_from(handle.0).unwrap_or(u32::MAX);
        let Some(state) = self.memory.state(slot) else { return };
        // SAFETY: `put_ref` ends a reference, so the slot holds a slice of this guest; nobody borrows its state across this call.
        self.memory.put_ref(slot, || unsafe { SliceSlot::new(state) }.meta());
    }
}
