//! virtio-rng: randomness from the host for the guest's seed.

use super::config::REQUEST_QUEUE;
use super::metrics::RngMetrics;
use crate::devices::virtio::chain::{ChainError, write_chain};
use crate::devices::virtio::mmio::MmioTransport;
use crate::devices::virtio::suppression::wants_interrupt;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use virtio_queue::{QueueOwnedT, QueueT};

/// Most bytes given per request; the driver asks again if it wants more (section 5.4.6).
const REQUEST_BYTES_MAX: usize = 256;
/// Requests answered per call, so that a greedy guest does not keep the I/O thread from its frames.
const REQUESTS_PER_CALL_MAX: usize = 16;

/// The entropy device; used by the I/O thread alone.
#[derive(Debug)]
pub struct Rng {
    transport: Arc<MmioTransport>,
    source: File,
    metrics: RngMetrics,
}

impl Rng {
    /// The device behind this transport, fed by `/dev/urandom`.
    pub fn new(transport: Arc<MmioTransport>) -> io::Result<Self> {
        Ok(Self { transport, source: File::open("/dev/urandom")?, metrics: RngMetrics::default() })
    }

    /// Counters.
    pub fn metrics(&self) -> RngMetrics {
        self.metrics
    }

    /// Answers requests; to be called when the kick is readable. If some are left the kick is raised again.
    pub fn service(&mut self) {
        if let Some(kick) = self.transport.kicks().first() {
            let _ = kick.read();
        }
        let mut answered = 0;
        while answered < REQUESTS_PER_CALL_MAX {
            // The randomness is read before the lock is taken: no system call under it.
            let mut bytes = [0; REQUEST_BYTES_MAX];
            if self.source.read_exact(&mut bytes).is_err() {
                self.metrics.source_errors += 1;
                return;
            }
            match self.answer(&bytes) {
                Answer::Given => answered += 1,
                Answer::Nothing if answered == 0 => return,
                Answer::Nothing => break,
                Answer::Broken => return,
            }
        }
        self.interrupt();
        if answered == REQUESTS_PER_CALL_MAX
            && let Some(kick) = self.transport.kicks().first()
        {
            let _ = kick.write(1);
        }
    }

    fn answer(&mut self, bytes: &[u8]) -> Answer {
        let mut device = self.transport.lock();
        let Some((queue, memory)) = device.queue(REQUEST_QUEUE) else { return Answer::Nothing };
        let mut next = || loop {
            match queue.iter(memory) {
                Ok(mut chains) => {
                    if let Some(chain) = chains.next() {
                        return Ok(Some(chain));
                    }
                }
                Err(e) => return Err(e),
            }
            // Nothing there: ask to be notified, and look once more if something came meanwhile.
            if !queue.enable_notification(memory)? {
                return Ok(None);
            }
        };
        let chain = match next() {
            Ok(Some(chain)) => chain,
            Ok(None) => return Answer::Nothing,
            Err(_) => {
                self.metrics.queues_broken += 1;
                device.give_up();
                return Answer::Broken;
            }
        };
        let head = chain.head_index();
        let given = give(&chain, memory, bytes);
        let used = u32::try_from(given.unwrap_or(0)).unwrap_or(0);
        if queue.add_used(memory, head, used).is_err() {
            self.metrics.queues_broken += 1;
            device.give_up();
            return Answer::Broken;
        }
        match given {
            Ok(n) => {
                self.metrics.requests += 1;
                self.metrics.bytes += n as u64;
            }
            Err(_) => self.metrics.chains_malformed += 1,
        }
        Answer::Given
    }

    fn interrupt(&mut self) {
        let mut device = self.transport.lock();
        let Some((queue, memory)) = device.queue(REQUEST_QUEUE) else { return };
        match wants_interrupt(queue, memory) {
            Ok(true) => device.raise_used(),
            Ok(false) => {}
            Err(_) => {
                self.metrics.queues_broken += 1;
                device.give_up();
            }
        }
    }
}

enum Answer {
    Given,
    Nothing,
    Broken,
}

/// Fills as much of the chain as there are bytes.
fn give(
    chain: &crate::devices::virtio::chain::Chain<'_>,
    memory: &vm_memory::GuestMemoryMmap,
    bytes: &[u8],
) -> Result<usize, ChainError> {
    let room = chain
        .clone()
        .take(crate::devices::virtio::chain::DESCRIPTORS_PER_CHAIN_MAX)
        .fold(0u64, |sum, d| sum + u64::from(d.len()));
    let len = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
    let part = bytes.get(..len).unwrap_or(&[]);
    if part.is_empty() {
        return Err(ChainError::Empty);
    }
    write_chain(chain.clone(), memory, part, &[]).map(|()| len)
}
