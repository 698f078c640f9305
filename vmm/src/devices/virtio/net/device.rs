//! virtio-net as the I/O thread uses it: frames out of the guest, frames into it, tap and mirror.
//!
//! Nothing here allocates per frame, and the device's lock is held for one frame at a time.

use super::config::{RECEIVE_QUEUE, TRANSMIT_QUEUE};
use super::frame_buf::{FRAME_BYTES_MAX, FrameBuf, SEGMENTED_BYTES_MAX};
use super::metrics::NetMetrics;
use super::receive::{Receive, receive};
use super::tap::Tap;
use super::transmit::{Transmit, transmit};
use super::vnet_header::{self, Offload, VNET_HEADER_BYTES};
use crate::devices::virtio::chain::WhenEmpty;
use crate::devices::virtio::mmio::MmioTransport;
use std::io;
use std::sync::Arc;
use virtio_bindings::bindings::virtio_net::{VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_HOST_TSO4};

/// Malformed chains skipped per call; a guest that makes more of them waits for its next turn.
const MALFORMED_PER_CALL_MAX: usize = 64;

/// A frame that was taken from the guest; its bytes are in the caller's [`FrameBuf`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxFrame {
    /// Bytes, virtio-net header included.
    pub len: usize,
}

/// What became of a frame for the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RxOutcome {
    /// The guest has it (after [`Net::flush_rx`]).
    Done,
    /// The guest has no buffer; it will notify the receive queue when it has (`VmFds::rx_kick`).
    NoBuffer,
    /// Longer than a frame may be or shorter than its headers; dropped.
    BadLength,
    /// Its virtio-net header is impossible; dropped.
    BadHeader,
    /// The driver is not up (or waits for a reset of the device); dropped.
    NotReady,
}

/// The network device; used by the I/O thread alone.
#[derive(Debug)]
pub struct Net {
    transport: Arc<MmioTransport>,
    tap: Option<Tap>,
    mirror: Option<Tap>,
    /// For the rare frame that must be changed before the guest gets it.
    scratch: Option<FrameBuf>,
    /// What an empty transmit queue is left with.
    when_empty: WhenEmpty,
    tx_used: bool,
    rx_used: bool,
    metrics: NetMetrics,
}

impl Net {
    /// The device behind this transport, with its tap and the interface of the ingress mirror.
    pub fn new(transport: Arc<MmioTransport>, tap: Option<Tap>, mirror: Option<Tap>) -> Self {
        Self {
            transport,
            tap,
            mirror,
            scratch: Some(FrameBuf::new()),
            when_empty: WhenEmpty::Notify,
            tx_used: false,
            rx_used: false,
            metrics: NetMetrics::default(),
        }
    }

    /// Counters.
    pub fn metrics(&self) -> NetMetrics {
        self.metrics
    }

    /// Whether the driver is up.
    pub fn is_up(&self) -> bool {
        self.transport.lock().queue(TRANSMIT_QUEUE).is_some()
    }

    /// Forgets what concerns the guest that is gone.
    pub fn reset(&mut self) {
        (self.tx_used, self.rx_used) = (false, false);
    }

    /// Says whether the caller looks for frames by itself ([`Net::take_tx`] again and again) or sleeps until the kick.
    ///
    /// While busy, an empty queue is left without a request for notification, which spares the guest its kicks. Before
    /// sleeping, set it to `false` and call [`Net::take_tx`] until it gives `None`.
    pub fn set_busy_poll(&mut self, busy: bool) {
        self.when_empty = if busy { WhenEmpty::Quiet } else { WhenEmpty::Notify };
    }

    /// Takes the next frame: copied once, into `buf`, with a canonical header; its buffer is returned to the driver at
    /// once. `None`: there is no frame now, and (unless busy) the transmit kick will tell of the next one.
    ///
    /// The available index was read with acquire order before the frame, so whatever the guest wrote before it made the
    /// frame available is visible to the caller. A guest can make frames as fast as this takes them: bound the batch.
    pub fn take_tx(&mut self, buf: &mut FrameBuf) -> Option<TxFrame> {
        for _ in 0..MALFORMED_PER_CALL_MAX {
            let mut device = self.transport.lock();
            let csum = device.has(VIRTIO_NET_F_CSUM);
            // Segmentation needs checksums (virtio 1.2, section 5.1.3.1).
            let offload = Offload { csum, tso: csum && device.has(VIRTIO_NET_F_HOST_TSO4) };
            let bytes_max = if offload.tso { SEGMENTED_BYTES_MAX } else { FRAME_BYTES_MAX };
            let (queue, memory) = device.queue(TRANSMIT_QUEUE)?;
            match transmit(queue, memory, buf, bytes_max, self.when_empty) {
                Ok(Transmit::Frame(len)) => {
                    self.tx_used = true;
                    drop(device);
                    if let Some(frame) = self.accept_tx(buf, len, offload) {
                        return Some(frame);
                    }
                }
                Ok(Transmit::Malformed(_)) => {
                    self.tx_used = true;
                    self.metrics.tx_chains_malformed += 1;
                }
                Ok(Transmit::Nothing) => {
                    drop(device);
                    self.flush(TRANSMIT_QUEUE);
                    return None;
                }
                Err(_) => {
                    self.metrics.queues_broken += 1;
                    device.give_up();
                    return None;
                }
            }
        }
        // Come back later: others have a turn first.
        if let Some(kick) = self.transport.kicks().get(TRANSMIT_QUEUE) {
            let _ = kick.write(1);
        }
        None
    }

    fn accept_tx(&mut self, buf: &mut FrameBuf, len: usize, offload: Offload) -> Option<TxFrame> {
        match vnet_header::sanitize_transmitted(buf.frame_mut(), offload) {
            Ok(sanitized) => {
                self.metrics.tx_headers_cleared += u64::from(sanitized.cleared);
                self.metrics.tx_segmented += u64::from(sanitized.segmented);
                self.metrics.tx_frames += 1;
                self.metrics.tx_bytes += len as u64;
                Some(TxFrame { len })
            }
            Err(_) => {
                self.metrics.tx_headers_refused += 1;
                None
            }
        }
    }

    /// Gives a frame (virtio-net header and Ethernet) to the guest. It learns of it at the next [`Net::flush_rx`].
    pub fn push_rx(&mut self, frame: &[u8]) -> RxOutcome {
        if frame.len() > FRAME_BYTES_MAX {
            self.metrics.rx_bad_length += 1;
            return RxOutcome::BadLength;
        }
        let guest_csum = self.transport.lock().has(VIRTIO_NET_F_GUEST_CSUM);
        let (header, unfinished) = match vnet_header::prepare_received(frame, guest_csum) {
            Ok(prepared) => prepared,
            Err(vnet_header::VnetHeaderError::Short) => {
                self.metrics.rx_bad_length += 1;
                return RxOutcome::BadLength;
            }
            Err(_) => {
                self.metrics.rx_headers_refused += 1;
                return RxOutcome::BadHeader;
            }
        };
        let Some(place) = unfinished else {
            return self.deliver(&header, frame.get(VNET_HEADER_BYTES..).unwrap_or(&[]));
        };
        // Taken out for the call, so that `self` stays usable; an Option costs no allocation.
        let Some(mut scratch) = self.scratch.take() else { return RxOutcome::NotReady };
        scratch.copy_from(frame);
        let ethernet = scratch.frame_mut().get_mut(VNET_HEADER_BYTES..).unwrap_or(&mut []);
        vnet_header::finish_checksum(ethernet, place);
        self.metrics.rx_checksums_finished += 1;
        let outcome = self.deliver(&header, ethernet);
        self.scratch = Some(scratch);
        outcome
    }

    fn deliver(&mut self, header: &[u8; VNET_HEADER_BYTES], ethernet: &[u8]) -> RxOutcome {
        let mut device = self.transport.lock();
        let Some((queue, memory)) = device.queue(RECEIVE_QUEUE) else {
            self.metrics.rx_not_ready += 1;
            return RxOutcome::NotReady;
        };
        let mut malformed = 0;
        let result = receive(queue, memory, header, ethernet, &mut malformed);
        self.metrics.rx_chains_malformed += malformed;
        self.rx_used |= malformed > 0;
        match result {
            Ok(Receive::Done) => {
                self.rx_used = true;
                self.metrics.rx_frames += 1;
                self.metrics.rx_bytes += (header.len() + ethernet.len()) as u64;
                RxOutcome::Done
            }
            Ok(Receive::NoBuffer) => {
                self.metrics.rx_no_buffer += 1;
                RxOutcome::NoBuffer
            }
            Err(_) => {
                self.metrics.queues_broken += 1;
                device.give_up();
                RxOutcome::NotReady
            }
        }
    }

    /// Interrupts the guest for the frames pushed since the last call, if it wants that. Once per batch.
    pub fn flush_rx(&mut self) {
        self.flush(RECEIVE_QUEUE);
    }

    fn flush(&mut self, index: usize) {
        let pending = if index == RECEIVE_QUEUE { &mut self.rx_used } else { &mut self.tx_used };
        if !std::mem::take(pending) {
            return;
        }
        match self.transport.announce_used(index) {
            Ok(Some(true)) => self.metrics.interrupts += 1,
            Ok(Some(false)) => self.metrics.interrupts_suppressed += 1,
            Ok(None) => {}
            Err(_) => self.metrics.queues_broken += 1,
        }
    }

    /// Reads the next frame from the tap; `None` if there is none now. An error is the interface's (down, gone).
    pub fn tap_read(&mut self, buf: &mut FrameBuf) -> io::Result<Option<usize>> {
        let Some(tap) = &self.tap else { return Ok(None) };
        let got = read_frame(tap, buf, &mut self.metrics.rx_bad_length)?;
        self.metrics.tap_reads += u64::from(got.is_some());
        Ok(got)
    }

    /// Reads the next frame from the interface of the ingress mirror, which the guest never sees.
    pub fn mirror_read(&mut self, buf: &mut FrameBuf) -> io::Result<Option<usize>> {
        let Some(mirror) = &self.mirror else { return Ok(None) };
        let got = read_frame(mirror, buf, &mut self.metrics.rx_bad_length)?;
        self.metrics.mirror_reads += u64::from(got.is_some());
        Ok(got)
    }

    /// Writes a frame (virtio-net header and Ethernet) to the tap. `WouldBlock`: the tap is full; the frame is lost as
    /// on any full link. Without a tap every frame is lost.
    pub fn tap_write(&mut self, frame: &[u8]) -> io::Result<()> {
        let result = match &self.tap {
            Some(tap) => tap.write(frame),
            None => Err(io::ErrorKind::NotConnected.into()),
        };
        match result {
            Ok(()) => self.metrics.tap_writes += 1,
            Err(_) => self.metrics.tap_write_errors += 1,
        }
        result
    }

    /// The tap, if there is one.
    pub fn tap(&self) -> Option<&Tap> {
        self.tap.as_ref()
    }

    /// The interface of the ingress mirror, if there is one.
    pub fn mirror(&self) -> Option<&Tap> {
        self.mirror.as_ref()
    }

    /// Empties the transmit kick; the frames are taken by [`Net::take_tx`].
    pub fn clear_tx_kick(&self) {
        self.clear_kick(TRANSMIT_QUEUE);
    }

    /// Empties the receive kick: the guest has new buffers.
    pub fn clear_rx_kick(&self) {
        self.clear_kick(RECEIVE_QUEUE);
    }

    fn clear_kick(&self, queue: usize) {
        if let Some(kick) = self.transport.kicks().get(queue) {
            let _ = kick.read();
        }
    }
}

/// One frame of an interface; frames of impossible lengths are counted and skipped.
fn read_frame(tap: &Tap, buf: &mut FrameBuf, bad: &mut u64) -> io::Result<Option<usize>> {
    const SKIPPED_PER_CALL_MAX: usize = 16;
    for _ in 0..SKIPPED_PER_CALL_MAX {
        match buf.fill(FRAME_BYTES_MAX, |room| tap.read(room)) {
            Ok(len) if (super::frame_buf::FRAME_BYTES_MIN..=FRAME_BYTES_MAX).contains(&len) => return Ok(Some(len)),
            Ok(_) => *bad += 1,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    // Too many bad ones at a stretch: say so in a way that makes the caller come back.
    Err(io::ErrorKind::Interrupted.into())
}
