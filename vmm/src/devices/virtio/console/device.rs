//! virtio-console: chains of what the guest says, and of room for what is typed.

use super::config::{RECEIVE_QUEUE, TRANSMIT_QUEUE};
use super::metrics::ConsoleMetrics;
use crate::devices::serial::Console;
use crate::devices::virtio::chain::{
    ChainError, DESCRIPTORS_PER_CHAIN_MAX, WhenEmpty, next_chain, read_chain, write_chain,
};
use crate::devices::virtio::mmio::MmioTransport;
use std::io::Write;
use std::sync::Arc;
use virtio_queue::{Error, QueueT};

/// Longest chain that is taken; Linux writes a page at most.
const CHAIN_BYTES_MAX: usize = 4096;
/// Chains taken per call, so that a talkative guest does not keep the I/O thread from its frames.
const CHAINS_PER_CALL_MAX: usize = 16;

/// The console device; used by the I/O thread alone.
#[derive(Debug)]
pub struct VirtioConsole {
    transport: Arc<MmioTransport>,
    sink: Console,
    scratch: Box<[u8]>,
    metrics: ConsoleMetrics,
}

impl VirtioConsole {
    /// The device behind this transport. A sink that blocks stops the I/O thread.
    pub fn new(transport: Arc<MmioTransport>, sink: Console) -> Self {
        Self { transport, sink, scratch: vec![0; CHAIN_BYTES_MAX].into(), metrics: ConsoleMetrics::default() }
    }

    /// Counters.
    pub const fn metrics(&self) -> ConsoleMetrics {
        self.metrics
    }

    /// Bytes of output dropped so far, because they were too many.
    pub fn dropped_bytes(&self) -> u64 {
        self.sink.dropped_bytes()
    }

    /// Passes on what the guest says, if it has notified any. If some is left the kick is raised again.
    pub fn service(&mut self) {
        let transport = Arc::clone(&self.transport);
        let Some(kick) = transport.kicks().get(TRANSMIT_QUEUE) else { return };
        if kick.read().is_err() {
            return;
        }
        for _ in 0..CHAINS_PER_CALL_MAX {
            match self.take() {
                Ok(Some(len)) => {
                    self.metrics.said_bytes += len as u64;
                    // A sink that fails loses output, nothing else.
                    let _ = self.sink.write_all(self.scratch.get(..len).unwrap_or_default());
                }
                Ok(None) => return self.announce(TRANSMIT_QUEUE),
                Err(_) => return self.give_up(),
            }
        }
        self.announce(TRANSMIT_QUEUE);
        let _ = kick.write(1);
    }

    /// Takes one chain into the scratch; how many bytes it had.
    fn take(&mut self) -> Result<Option<usize>, Error> {
        let mut device = self.transport.lock();
        let Some((queue, memory)) = device.queue(TRANSMIT_QUEUE) else { return Ok(None) };
        let Some(chain) = next_chain(queue, memory, WhenEmpty::Notify)? else { return Ok(None) };
        let head = chain.head_index();
        let len = read_chain(chain, memory, &mut self.scratch);
        queue.add_used(memory, head, 0)?;
        self.metrics.chains_malformed += u64::from(len.is_err());
        Ok(Some(len.unwrap_or(0)))
    }

    /// Types `bytes`; returns how many the guest has room for. The rest is the caller's to try again.
    pub fn input(&mut self, bytes: &[u8]) -> usize {
        self.sink.flush_line();
        let mut typed = 0;
        while let Some(rest) = bytes.get(typed..).filter(|rest| !rest.is_empty()) {
            match self.give(rest) {
                Ok(Some(given)) => typed += given,
                Ok(None) => break,
                Err(_) => {
                    self.give_up();
                    break;
                }
            }
        }
        if typed > 0 {
            self.announce(RECEIVE_QUEUE);
        }
        self.metrics.typed_bytes += typed as u64;
        typed
    }

    /// Fills one chain; `None`: there is none.
    fn give(&mut self, bytes: &[u8]) -> Result<Option<usize>, Error> {
        let mut device = self.transport.lock();
        let Some((queue, memory)) = device.queue(RECEIVE_QUEUE) else { return Ok(None) };
        let Some(chain) = next_chain(queue, memory, WhenEmpty::Notify)? else { return Ok(None) };
        let head = chain.head_index();
        let room: u64 = chain.clone().take(DESCRIPTORS_PER_CHAIN_MAX).map(|d| u64::from(d.len())).sum();
        let part = bytes.get(..bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX))).unwrap_or_default();
        let given = if part.is_empty() { Err(ChainError::Empty) } else { write_chain(chain, memory, part, &[]) };
        let given = given.map_or(0, |()| part.len());
        queue.add_used(memory, head, u32::try_from(given).unwrap_or(0))?;
        self.metrics.chains_malformed += u64::from(given == 0);
        Ok(Some(given))
    }

    fn announce(&mut self, queue: usize) {
        if self.transport.announce_used(queue).is_err() {
            self.metrics.queues_broken += 1;
        }
    }

    fn give_up(&mut self) {
        self.metrics.queues_broken += 1;
        self.transport.lock().give_up();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::devices::virtio::console::config::model;
    use crate::devices::virtio::mmio::tests::bring_up;
    use crate::interrupts::Interrupt;
    use std::sync::Mutex;
    use virtio_queue::desc::RawDescriptor;
    use virtio_queue::desc::split::Descriptor;
    use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

    const WRITE: u16 = 2;
    const RECEIVE: u64 = 0x1000;
    const TRANSMIT: u64 = 0x4000;
    const DATA: u64 = 0x8000;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, b: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(b);
            Ok(b.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    struct Rig {
        memory: GuestMemoryMmap,
        transport: Arc<MmioTransport>,
        console: VirtioConsole,
        said: Shared,
    }

    fn rig() -> Rig {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x1_0000)]).unwrap();
        let transport = Arc::new(MmioTransport::new(model(), memory.clone(), Interrupt::new().unwrap()).unwrap());
        let rings = [RECEIVE, TRANSMIT].map(|at| (at, at + 0x1000, at + 0x2000));
        bring_up(&transport, 1 << 32, 16, &rings);
        let said = Shared::default();
        let console = VirtioConsole::new(Arc::clone(&transport), Console::terminal(Box::new(said.clone())));
        Rig { memory, transport, console, said }
    }

    impl Rig {
        fn offer(&self, queue: u64, count: u16, address: u64, len: u32, flags: u16) {
            let d = RawDescriptor::from(Descriptor::new(address, len, flags, 0));
            self.memory.write_obj(d, GuestAddress(queue)).unwrap();
            self.memory.write_obj(count, GuestAddress(queue + 0x1002)).unwrap();
        }

        fn used(&self, queue: u64) -> (u16, u32) {
            let at = GuestAddress(queue + 0x2000);
            (
                self.memory.read_obj(GuestAddress(at.0 + 2)).unwrap(),
                self.memory.read_obj(GuestAddress(at.0 + 8)).unwrap(),
            )
        }
    }

    #[test]
    fn what_the_guest_says_is_passed_on() {
        let mut rig = rig();
        rig.memory.write_slice(b"login: ", GuestAddress(DATA)).unwrap();
        rig.offer(TRANSMIT, 1, DATA, 7, 0);
        rig.console.service();
        assert_eq!(rig.used(TRANSMIT).0, 0, "not without a kick");
        rig.transport.kicks()[TRANSMIT_QUEUE].write(1).unwrap();
        rig.console.service();
        assert_eq!((rig.used(TRANSMIT).0, rig.said.0.lock().unwrap().as_slice()), (1, &b"login: "[..]));
        assert_eq!(rig.console.metrics().said_bytes, 7);
    }

    #[test]
    fn keys_fill_the_room_that_there_is_and_no_more() {
        let mut rig = rig();
        assert_eq!(rig.console.input(b"root\n"), 0, "no room yet");
        rig.offer(RECEIVE, 1, DATA, 3, WRITE);
        assert_eq!(rig.console.input(b"root\n"), 3);
        assert_eq!(
            (rig.used(RECEIVE), rig.memory.read_obj::<[u8; 4]>(GuestAddress(DATA)).unwrap()),
            ((1, 3), *b"roo\0")
        );
        rig.offer(RECEIVE, 2, DATA, 3, 0);
        assert_eq!(rig.console.input(b"t\n"), 0, "room that cannot be written is none");
        assert_eq!(rig.console.metrics().chains_malformed, 1);
    }

    #[test]
    fn nonsense_is_counted_and_hurts_nobody() {
        for (address, len, flags) in [(DATA, 4097, 0), (u64::MAX - 3, 8, 0), (DATA, 8, WRITE), (DATA, 0, 0)] {
            let mut rig = rig();
            rig.offer(TRANSMIT, 1, address, len, flags);
            rig.transport.kicks()[TRANSMIT_QUEUE].write(1).unwrap();
            rig.console.service();
            assert_eq!((rig.used(TRANSMIT).0, rig.console.metrics().chains_malformed), (1, 1), "{address:#x} {len}");
        }
        let mut rig = rig();
        rig.offer(TRANSMIT, 17, DATA, 8, 0);
        rig.transport.kicks()[TRANSMIT_QUEUE].write(1).unwrap();
        rig.console.service();
        assert_eq!((rig.console.metrics().queues_broken, rig.transport.metrics().needs_reset), (1, 1));
    }
}
