//! virtio-rng: randomness from the host for the guest's seed.

use super::config::REQUEST_QUEUE;
use super::metrics::RngMetrics;
use crate::devices::virtio::chain::{Chain, ChainError, DESCRIPTORS_PER_CHAIN_MAX, WhenEmpty, next_chain, write_chain};
use crate::devices::virtio::mmio::MmioTransport;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use virtio_queue::{Error, QueueT};
use vm_memory::GuestMemoryMmap;

/// Most bytes given per request; the driver asks again if it wants more (section 5.4.6).
const REQUEST_BYTES_MAX: usize = 256;
/// Requests answered per call, so that a greedy guest does not keep the I/O thread from its frames.
const REQUESTS_PER_CALL_MAX: usize = 16;

/// The entropy device; used by the I/O thread alone.
#[derive(Debug)]
pub struct Rng {
    transport: Arc<MmioTransport>,
    source: File,
    unannounced: bool,
    metrics: RngMetrics,
}

impl Rng {
    /// The device behind this transport, fed by `/dev/urandom`.
    pub fn new(transport: Arc<MmioTransport>) -> io::Result<Self> {
        Ok(Self { transport, source: File::open("/dev/urandom")?, unannounced: false, metrics: RngMetrics::default() })
    }

    /// Counters.
    pub fn metrics(&self) -> RngMetrics {
        self.metrics
    }

    /// Answers requests, if the driver has notified any. If some are left the kick is raised again.
    pub fn service(&mut self) {
        let transport = Arc::clone(&self.transport);
        let Some(kick) = transport.kicks().get(REQUEST_QUEUE) else { return };
        if kick.read().is_err() {
            return;
        }
        for _ in 0..REQUESTS_PER_CALL_MAX {
            // The randomness is read before the lock is taken: no system call under it.
            let mut bytes = [0; REQUEST_BYTES_MAX];
            if self.source.read_exact(&mut bytes).is_err() {
                self.metrics.source_errors += 1;
                return;
            }
            match self.answer(&bytes) {
                Ok(true) => {}
                Ok(false) => return self.interrupt(),
                Err(_) => return self.give_up(),
            }
        }
        self.interrupt();
        let _ = kick.write(1);
    }

    /// Answers one request; `false`: there is none.
    fn answer(&mut self, bytes: &[u8]) -> Result<bool, Error> {
        let mut device = self.transport.lock();
        let Some((queue, memory)) = device.queue(REQUEST_QUEUE) else { return Ok(false) };
        let Some(chain) = next_chain(queue, memory, WhenEmpty::Notify)? else { return Ok(false) };
        let head = chain.head_index();
        let given = give(&chain, memory, bytes);
        queue.add_used(memory, head, given.map_or(0, |n| n as u32))?;
        self.unannounced = true;
        match given {
            Ok(n) => {
                self.metrics.requests += 1;
                self.metrics.bytes += n as u64;
            }
            Err(_) => self.metrics.chains_malformed += 1,
        }
        Ok(true)
    }

    fn interrupt(&mut self) {
        if std::mem::take(&mut self.unannounced) && self.transport.announce_used(REQUEST_QUEUE).is_err() {
            self.metrics.queues_broken += 1;
        }
    }

    fn give_up(&mut self) {
        self.metrics.queues_broken += 1;
        self.transport.lock().give_up();
    }
}

/// Fills as much of the chain as there are bytes; returns how many that were ([`REQUEST_BYTES_MAX`] at most).
fn give(chain: &Chain<'_>, memory: &GuestMemoryMmap, bytes: &[u8]) -> Result<usize, ChainError> {
    let descriptors = chain.clone().take(DESCRIPTORS_PER_CHAIN_MAX);
    let room: u64 = descriptors.map(|d| u64::from(d.len())).sum();
    let len = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
    match bytes.get(..len) {
        Some(part) if !part.is_empty() => write_chain(chain.clone(), memory, part, &[]).map(|()| len),
        _ => Err(ChainError::Empty),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::devices::virtio::mmio::tests::bring_up;
    use crate::devices::virtio::rng::config::model;
    use crate::interrupts::Interrupt;
    use virtio_queue::desc::RawDescriptor;
    use virtio_queue::desc::split::Descriptor;
    use vm_memory::{Bytes, GuestAddress};

    const WRITE: u16 = 2;

    fn rig() -> (GuestMemoryMmap, Arc<MmioTransport>, Rng, Interrupt) {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x1_0000)]).unwrap();
        let interrupt = Interrupt::new().unwrap();
        let transport = Arc::new(MmioTransport::new(model(), memory.clone(), interrupt.clone()).unwrap());
        bring_up(&transport, 1 << 32, 16, &[(0x1000, 0x2000, 0x3000)]);
        let rng = Rng::new(Arc::clone(&transport)).unwrap();
        (memory, transport, rng, interrupt)
    }

    fn offer(memory: &GuestMemoryMmap, count: u16, address: u64, len: u32, flags: u16) {
        let d = RawDescriptor::from(Descriptor::new(address, len, flags, 0));
        memory.write_obj(d, GuestAddress(0x1000)).unwrap();
        memory.write_obj(count, GuestAddress(0x2002)).unwrap();
    }

    fn used(memory: &GuestMemoryMmap) -> (u16, u32) {
        (memory.read_obj(GuestAddress(0x3002)).unwrap(), memory.read_obj(GuestAddress(0x3008)).unwrap())
    }

    #[test]
    fn requests_are_filled_with_different_bytes() {
        let (memory, transport, mut rng, interrupt) = rig();
        offer(&memory, 1, 0x8000, 32, WRITE);
        rng.service();
        assert_eq!(used(&memory).0, 0, "not without a kick");
        transport.kicks()[0].write(1).unwrap();
        rng.service();
        assert_eq!((used(&memory), interrupt.raised()), ((1, 32), 1));
        let read = || memory.read_obj::<[u8; 32]>(GuestAddress(0x8000)).unwrap();
        let first = read();
        assert_ne!(first, [0; 32]);
        offer(&memory, 2, 0x8000, 32, WRITE);
        transport.kicks()[0].write(1).unwrap();
        rng.service();
        assert_ne!(read(), first);
    }

    #[test]
    fn greed_and_nonsense_are_bounded() {
        for (address, len, flags, got) in
            [(0x8000, u32::MAX, WRITE, 256), (0x8000, 32, 0, 0), (u64::MAX, 32, WRITE, 0), (0x8000, 0, WRITE, 0)]
        {
            let (memory, transport, mut rng, interrupt) = rig();
            offer(&memory, 16, address, len, flags);
            transport.kicks()[0].write(1).unwrap();
            rng.service();
            assert_eq!((used(&memory), interrupt.raised()), ((16, got), 1), "{address:#x} {len} {flags}");
            assert_eq!(transport.kicks()[0].read().unwrap(), 1, "others have a turn first");
        }
        let (memory, transport, mut rng, _) = rig();
        offer(&memory, 17, 0x8000, 32, WRITE);
        transport.kicks()[0].write(1).unwrap();
        rng.service();
        assert_eq!((rng.metrics().queues_broken, transport.metrics().needs_reset), (1, 1));
    }
}
