//! The way out: frames go to the host's TX ring, and what each says about the slice is noted.

use crate::frame::{ETHERNET, FIN, RST, SYN};
use crate::host::Host;
use crate::seq;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use escape_abi::GuestMessage;
use smoltcp::phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use smoltcp::wire::{Ipv4Packet, TcpPacket, TcpSeqNumber};

/// Largest IP packet, bytes.
const MTU: usize = 1500;
/// Frames kept when the TX ring is full. When these are full too, sockets keep their data and are asked again 1 ms later.
const OVERFLOW_FRAMES_MAX: usize = 256;

/// What the slice that is referenced now has sent since the last [`Wire::begin`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Emitted {
    /// Frames.
    pub frames: u32,
    /// Frames that occupy sequence space.
    pub seq_frames: u32,
    /// Sequence number behind the last byte sent, if any frame went out.
    pub seq_end: Option<u32>,
    /// Last acknowledgement sent.
    pub ack: Option<u32>,
    /// Our initial sequence number, if our SYN went out.
    pub syn: Option<u32>,
}

/// The host and what waits for it.
pub(crate) struct Wire<H> {
    pub host: H,
    pub emitted: Emitted,
    /// A probe is being made; the peer has acknowledged everything before this number.
    pub probing: Option<u32>,
    scratch: [u8; ETHERNET + MTU],
    overflow_frames: VecDeque<Vec<u8>>,
    /// Messages that the ring had no room for. Bounded by what may cause them: while any waits no connection is opened, and the others
    /// are at most a few per slot.
    outbox: VecDeque<GuestMessage>,
    rx_csum_ok: bool,
    /// Resets that smoltcp wanted to send: a slice ends in silence, and its host answers for it.
    pub resets_suppressed: u64,
    /// Frames lost because ring and overflow were full.
    pub frames_lost: u64,
}

impl<H: Host> Wire<H> {
    pub(crate) fn new(host: H, service_mac: [u8; 6]) -> Self {
        let mut scratch = [0; ETHERNET + MTU];
        scratch[6..12].copy_from_slice(&service_mac);
        scratch[12..14].copy_from_slice(&[8, 0]);
        Self {
            host,
            emitted: Emitted::default(),
            probing: None,
            scratch,
            overflow_frames: VecDeque::new(),
            outbox: VecDeque::new(),
            rx_csum_ok: false,
            resets_suppressed: 0,
            frames_lost: 0,
        }
    }

    /// From now on frames belong to another slice, and go to this peer.
    pub(crate) fn begin(&mut self, peer_mac: [u8; 6]) {
        self.emitted = Emitted::default();
        self.scratch[..6].copy_from_slice(&peer_mac);
    }

    /// Inbound checksums were verified by somebody else.
    pub(crate) const fn trust_rx_checksums(&mut self, trust: bool) {
        self.rx_csum_ok = trust;
    }
    pub(crate) const fn rx_csum_ok(&self) -> bool {
        self.rx_csum_ok
    }

    /// Sends a message, or keeps it until the ring has room: order is kept.
    pub(crate) fn tell(&mut self, message: GuestMessage) {
        if !self.outbox.is_empty() || !self.host.send(message) {
            self.outbox.push_back(message);
        }
    }

    /// Sends a message now or not at all.
    pub(crate) fn try_tell(&mut self, message: GuestMessage) -> bool {
        self.outbox.is_empty() && self.host.send(message)
    }

    /// Moves what waited to the rings; `true` = nothing waits any more.
    pub(crate) fn flush(&mut self) -> bool {
        while let Some(message) = self.outbox.front() {
            if !self.host.send(*message) {
                return false;
            }
            self.outbox.pop_front();
        }
        while let Some(frame) = self.overflow_frames.front() {
            if !self.host.transmit(frame) {
                return false;
            }
            self.overflow_frames.pop_front();
        }
        true
    }

    /// Frames can be sent or kept.
    pub(crate) fn has_room(&self) -> bool {
        self.overflow_frames.len() < OVERFLOW_FRAMES_MAX
    }

    /// Sends a frame that belongs to no slice.
    pub(crate) fn send_frame(&mut self, frame: &[u8]) {
        if self.overflow_frames.is_empty() && self.host.transmit(frame) {
            return;
        }
        if self.has_room() {
            self.overflow_frames.push_back(frame.to_vec());
        } else {
            self.frames_lost += 1;
        }
    }

    /// Makes sure that a probe's byte, which is not the connection's, is one that the peer has acknowledged: smoltcp takes the one before
    /// what it sent last, which is right only when nothing is out.
    fn backdate_probe(&mut self, len: usize) {
        let Some(una) = self.probing else { return };
        let Some(packet) = self.scratch.get_mut(ETHERNET..ETHERNET + len) else { return };
        let Ok(mut ip) = Ipv4Packet::new_checked(packet) else { return };
        let (from, to) = (ip.src_addr().into(), ip.dst_addr().into());
        let Ok(mut tcp) = TcpPacket::new_checked(ip.payload_mut()) else { return };
        if tcp.payload_mut().len() == 1 && !tcp.syn() && !tcp.fin() {
            tcp.set_seq_number(TcpSeqNumber(una.wrapping_sub(1).cast_signed()));
            tcp.fill_checksum(&from, &to);
        }
    }

    /// Sends the first `len` bytes of the packet in `scratch`.
    fn send_scratch(&mut self, len: usize) {
        self.backdate_probe(len);
        let Some(tcp) = self.scratch.get(ETHERNET + 20..ETHERNET + len).filter(|tcp| tcp.len() >= 20) else { return };
        let word = |at: usize| u32::from_be_bytes([tcp[at], tcp[at + 1], tcp[at + 2], tcp[at + 3]]);
        let (at, ack, flags) = (word(4), word(8), tcp[13]);
        if flags & RST != 0 {
            self.resets_suppressed += 1;
            return;
        }
        let payload = tcp.len().saturating_sub(usize::from(tcp[12] >> 4) * 4) as u32;
        let occupied = payload + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        let end = at.wrapping_add(occupied);
        let e = &mut self.emitted;
        e.frames += 1;
        e.seq_frames += u32::from(occupied > 0);
        e.seq_end = Some(e.seq_end.map_or(end, |before| seq::later(before, end)));
        e.ack = Some(ack);
        if flags & SYN != 0 {
            e.syn = Some(at);
        }
        if self.overflow_frames.is_empty() && self.host.transmit(&self.scratch[..ETHERNET + len]) {
            return;
        }
        self.overflow_frames.push_back(self.scratch[..ETHERNET + len].to_vec());
    }
}

/// A smoltcp device of at most one inbound packet. Medium IP: the Ethernet header is ours, the peer's address is in the slot.
pub(crate) struct OnePacket<'a, H> {
    pub packet: Option<&'a [u8]>,
    pub wire: &'a mut Wire<H>,
}

pub(crate) struct Rx<'a>(&'a [u8]);
pub(crate) struct Tx<'a, H>(&'a mut Wire<H>);

impl RxToken for Rx<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl<H: Host> TxToken for Tx<'_, H> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        // smoltcp keeps to the MTU.
        let r = f(&mut self.0.scratch[ETHERNET..ETHERNET + len]);
        self.0.send_scratch(len);
        r
    }
}

impl<H: Host> Device for OnePacket<'_, H> {
    type RxToken<'b>
        = Rx<'b>
    where
        Self: 'b;
    type TxToken<'b>
        = Tx<'b, H>
    where
        Self: 'b;

    fn receive(&mut self, _: Instant) -> Option<(Rx<'_>, Tx<'_, H>)> {
        Some((Rx(self.packet.take()?), Tx(self.wire)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_, H>> {
        self.wire.has_room().then_some(Tx(self.wire))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut c = DeviceCapabilities::default();
        c.medium = Medium::Ip;
        c.max_transmission_unit = MTU;
        if self.wire.rx_csum_ok {
            let mut out_only = ChecksumCapabilities::ignored();
            out_only.ipv4 = smoltcp::phy::Checksum::Tx;
            out_only.tcp = smoltcp::phy::Checksum::Tx;
            c.checksum = out_only;
        }
        c
    }
}
