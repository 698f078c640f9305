//! virtio-vsock: packets between the guest's queues and the streams on the host.

use super::config::{RECEIVE_QUEUE, TRANSMIT_QUEUE, VsockConfig};
use super::connection::Outgoing;
use super::error::VsockError;
use super::metrics::VsockMetrics;
use super::muxer::Muxer;
use super::packet::{DATA_BYTES_MAX, HEAD_BYTES, Head};
use crate::devices::virtio::chain::{
    Chain, ChainError, DESCRIPTORS_PER_CHAIN_MAX, WhenEmpty, next_chain, read_chain, write_chain,
};
use crate::devices::virtio::mmio::MmioTransport;
use std::os::fd::RawFd;
use std::sync::Arc;
use virtio_queue::{Error, QueueOwnedT, QueueT};

/// Packets per direction and call, so that a busy stream does not keep the I/O thread from its frames.
const PACKETS_PER_CALL_MAX: usize = 16;

/// The socket device; used by the I/O thread alone.
#[derive(Debug)]
pub struct Vsock {
    transport: Arc<MmioTransport>,
    muxer: Muxer,
    /// Which life of the device the streams belong to.
    life: u64,
    /// A packet of which the guest has not had all.
    under_way: Option<Outgoing>,
    scratch: Box<[u8]>,
    unannounced: [bool; 2],
}

impl Vsock {
    /// The device behind this transport; makes the unix socket.
    pub fn new(transport: Arc<MmioTransport>, config: &VsockConfig) -> Result<Self, VsockError> {
        let life = transport.lock().life();
        let scratch = vec![0; HEAD_BYTES + DATA_BYTES_MAX].into_boxed_slice();
        Ok(Self { muxer: Muxer::new(config)?, transport, life, under_way: None, scratch, unannounced: [false; 2] })
    }

    /// Readable when programs on the host have done something: [`Vsock::service`].
    pub fn raw_fd(&self) -> RawFd {
        self.muxer.raw_fd()
    }

    /// Counters.
    pub fn metrics(&self) -> VsockMetrics {
        self.muxer.metrics
    }

    /// Carries packets both ways; whether more could be carried at once.
    pub fn service(&mut self) -> bool {
        for kick in self.transport.kicks() {
            // Looked at anyway.
            let _ = kick.read();
        }
        let life = self.transport.lock().life();
        if life != self.life {
            (self.life, self.under_way) = (life, None);
            self.muxer.forget_all();
        }
        let mut more = self.muxer.look_at_host();
        // The first result decides nothing about the second direction: each is carried as far as it goes.
        for direction in [Self::take, Self::give] {
            for turn in 0..=PACKETS_PER_CALL_MAX {
                match direction(self) {
                    Ok(false) => break,
                    Ok(true) => more |= turn == PACKETS_PER_CALL_MAX,
                    Err(_) => {
                        self.muxer.metrics.queues_broken += 1;
                        self.transport.lock().give_up();
                        return false;
                    }
                }
            }
        }
        self.interrupt();
        more
    }

    /// Takes one packet of the guest's; `false`: there is none.
    fn take(&mut self) -> Result<bool, Error> {
        let transport = Arc::clone(&self.transport);
        let mut device = transport.lock();
        let Some((queue, memory)) = device.queue(TRANSMIT_QUEUE) else { return Ok(false) };
        let Some(chain) = next_chain(queue, memory, WhenEmpty::Notify)? else { return Ok(false) };
        let head = chain.head_index();
        let len = read_chain(chain, memory, &mut self.scratch);
        queue.add_used(memory, head, 0)?;
        drop(device);
        self.unannounced[TRANSMIT_QUEUE] = true;
        let bytes = len.ok().and_then(|len| self.scratch.get(..len));
        match bytes.and_then(|bytes| bytes.split_first_chunk::<HEAD_BYTES>()) {
            Some((head, data)) if Head::of(head).len as usize == data.len() => self.muxer.packet(&Head::of(head), data),
            _ => self.muxer.metrics.chains_malformed += 1,
        }
        Ok(true)
    }

    /// Gives the guest one packet, or as much of it as its buffer holds; `false`: there is none, or no buffer.
    fn give(&mut self) -> Result<bool, Error> {
        if self.under_way.is_none() {
            // Streams are read without the lock, and only if there is a buffer for what they say.
            if !self.muxer.has_packet() || !self.has_buffer()? {
                return Ok(false);
            }
            self.under_way = self.muxer.next();
        }
        let Some(packet) = &mut self.under_way else { return Ok(false) };
        let mut device = self.transport.lock();
        let Some((queue, memory)) = device.queue(RECEIVE_QUEUE) else { return Ok(false) };
        let Some(chain) = next_chain(queue, memory, WhenEmpty::Notify)? else { return Ok(false) };
        let head = chain.head_index();
        let given = room(&chain).and_then(|room| {
            let part = packet.data.get(..room.min(packet.data.len())).unwrap_or_default();
            let len = u32::try_from(part.len()).map_err(|_| ChainError::TooLong)?;
            write_chain(chain, memory, &Head { len, ..packet.head }.bytes(), part).map(|()| part.len())
        });
        match given {
            // A buffer that holds a head and no data would never end.
            Ok(0) if !packet.data.is_empty() => {
                queue.add_used(memory, head, 0)?;
                self.muxer.metrics.chains_malformed += 1;
            }
            Ok(bytes) => {
                queue.add_used(memory, head, u32::try_from(HEAD_BYTES + bytes).unwrap_or(0))?;
                packet.data.drain(..bytes);
                if packet.data.is_empty() {
                    self.under_way = None;
                }
            }
            Err(_) => {
                queue.add_used(memory, head, 0)?;
                self.muxer.metrics.chains_malformed += 1;
            }
        }
        self.unannounced[RECEIVE_QUEUE] = true;
        Ok(true)
    }

    fn has_buffer(&self) -> Result<bool, Error> {
        let mut device = self.transport.lock();
        let Some((queue, memory)) = device.queue(RECEIVE_QUEUE) else { return Ok(false) };
        let there = queue.iter(memory)?.next().is_some();
        if there {
            // Looked at, not taken.
            queue.go_to_previous_position();
        }
        // One may come between look and request.
        Ok(there || queue.enable_notification(memory)?)
    }

    fn interrupt(&mut self) {
        for queue in [RECEIVE_QUEUE, TRANSMIT_QUEUE] {
            let used = self.unannounced.get_mut(queue).is_some_and(std::mem::take);
            if used && self.transport.announce_used(queue).is_err() {
                self.muxer.metrics.queues_broken += 1;
            }
        }
    }
}

/// Bytes of data that a chain holds behind a head.
fn room(chain: &Chain<'_>) -> Result<usize, ChainError> {
    let bytes: u64 = chain.clone().take(DESCRIPTORS_PER_CHAIN_MAX).map(|d| u64::from(d.len())).sum();
    let bytes = usize::try_from(bytes).map_err(|_| ChainError::TooLong)?;
    bytes.checked_sub(HEAD_BYTES).ok_or(ChainError::TooShort)
}
