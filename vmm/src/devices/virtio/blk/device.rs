//! virtio-blk, as the I/O thread serves it. Nothing is read or written while the device's lock is held.

use super::config::REQUEST_QUEUE;
use super::disk::Disk;
use super::metrics::BlkMetrics;
use super::request::{Kind, Request};
use crate::devices::virtio::chain::{WhenEmpty, next_chain};
use crate::devices::virtio::mmio::MmioTransport;
use std::sync::Arc;
use virtio_queue::{Error, QueueT};
use vm_memory::{Bytes, GuestMemoryMmap};

/// Requests answered per call, so that a busy disk does not keep the I/O thread from frames.
const REQUESTS_PER_CALL_MAX: usize = 64;
/// Statuses (virtio 1.2, section 5.2.6).
const OK: u8 = 0;
const IO_ERROR: u8 = 1;
const UNSUPPORTED: u8 = 2;
/// The disk's name: 20 bytes.
const NAME: [u8; 20] = *b"escape-capsule-disk\0";

/// A disk; used by the I/O thread alone.
#[derive(Debug)]
pub struct Blk {
    transport: Arc<MmioTransport>,
    memory: GuestMemoryMmap,
    disk: Disk,
    unannounced: bool,
    metrics: BlkMetrics,
}

/// A chain of one life of the device.
struct Taken {
    life: u64,
    head: u16,
    /// `None`: it makes no sense.
    request: Option<Request>,
}

impl Blk {
    /// The device behind this transport. `memory`: where its chains lie.
    pub fn new(transport: Arc<MmioTransport>, memory: GuestMemoryMmap, disk: Disk) -> Self {
        Self { transport, memory, disk, unannounced: false, metrics: BlkMetrics::default() }
    }

    /// Counters.
    pub const fn metrics(&self) -> BlkMetrics {
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
            match self.answer() {
                Ok(true) => {}
                Ok(false) => return self.interrupt(),
                Err(_) => return self.give_up(),
            }
        }
        self.interrupt();
        let _ = kick.write(1);
    }

    /// Answers one request; `false`: there is none.
    fn answer(&mut self) -> Result<bool, Error> {
        let Some(Taken { life, head, request }) = self.take()? else { return Ok(false) };
        // Nothing is given for a chain that makes no sense.
        let given = request.map_or(0, |request| self.perform(&request));
        let mut device = self.transport.lock();
        if device.life() != life {
            // The driver has reset the device meanwhile: the chain is of a queue that is no more.
            return Ok(false);
        }
        let Some((queue, memory)) = device.queue(REQUEST_QUEUE) else { return Ok(false) };
        queue.add_used(memory, head, given)?;
        self.unannounced = true;
        Ok(true)
    }

    /// The next chain and its request.
    fn take(&mut self) -> Result<Option<Taken>, Error> {
        let mut device = self.transport.lock();
        let life = device.life();
        let Some((queue, memory)) = device.queue(REQUEST_QUEUE) else { return Ok(None) };
        let Some(chain) = next_chain(queue, memory, WhenEmpty::Notify)? else { return Ok(None) };
        let head = chain.head_index();
        let request = Request::of(chain, memory);
        self.metrics.chains_malformed += u64::from(request.is_err());
        Ok(Some(Taken { life, head, request: request.ok() }))
    }

    /// Does what is wanted and writes the status; returns how many bytes the guest was given.
    fn perform(&mut self, request: &Request) -> u32 {
        let status = match request.kind {
            Kind::Read => self.read(request),
            Kind::Write => self.write(request),
            Kind::Flush => self.flush(),
            Kind::Name => self.name(request),
            Kind::Unknown => self.refuse(UNSUPPORTED),
        };
        if self.memory.write_obj(status, request.status).is_err() {
            self.metrics.chains_malformed += 1;
            return 0;
        }
        let data = if request.kind == Kind::Read && status == OK { request.bytes() } else { 0 };
        u32::try_from(data + 1).unwrap_or(u32::MAX)
    }

    fn read(&mut self, request: &Request) -> u8 {
        let Some(mut at) = request.place(self.disk.sectors()) else { return self.refuse(IO_ERROR) };
        for segment in &request.data {
            if let Err(error) = self.disk.read(at, &self.memory, segment.address, segment.len as usize) {
                return self.fail(&error);
            }
            at += u64::from(segment.len);
        }
        self.metrics.reads += 1;
        self.metrics.read_bytes += request.bytes();
        OK
    }

    fn write(&mut self, request: &Request) -> u8 {
        let place = request.place(self.disk.sectors()).filter(|_| !self.disk.is_read_only());
        let Some(mut at) = place else { return self.refuse(IO_ERROR) };
        for segment in &request.data {
            if let Err(error) = self.disk.write(at, &self.memory, segment.address, segment.len as usize) {
                return self.fail(&error);
            }
            at += u64::from(segment.len);
        }
        self.metrics.writes += 1;
        self.metrics.written_bytes += request.bytes();
        OK
    }

    /// Without it the guest's own journal would promise what a power failure takes.
    fn flush(&mut self) -> u8 {
        match self.disk.flush() {
            Ok(()) => {
                self.metrics.flushes += 1;
                OK
            }
            Err(error) => self.fail(&error),
        }
    }

    fn name(&mut self, request: &Request) -> u8 {
        match request.data.first().filter(|segment| segment.len as usize >= NAME.len()) {
            Some(segment) if self.memory.write_slice(&NAME, segment.address).is_ok() => OK,
            _ => self.refuse(IO_ERROR),
        }
    }

    fn refuse(&mut self, status: u8) -> u8 {
        self.metrics.refused += 1;
        status
    }

    fn fail(&mut self, error: &std::io::Error) -> u8 {
        self.metrics.failed += 1;
        tracing::debug!(%error, "a disk's request failed");
        IO_ERROR
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::devices::virtio::blk::config::{DiskConfig, model};
    use crate::devices::virtio::blk::disk::DiskError;
    use crate::devices::virtio::mmio::tests::bring_up;
    use crate::interrupts::Interrupt;
    use std::path::PathBuf;
    use virtio_queue::desc::RawDescriptor;
    use virtio_queue::desc::split::Descriptor;
    use vm_memory::GuestAddress;

    const NEXT: u16 = 1;
    const WRITE: u16 = 2;
    const HEAD: u64 = 0x7000;
    const DATA: u64 = 0x8000;
    const STATUS: u64 = 0xf000;

    struct Rig {
        memory: GuestMemoryMmap,
        transport: Arc<MmioTransport>,
        blk: Blk,
        interrupt: Interrupt,
        path: PathBuf,
        asked: u16,
    }

    impl Drop for Rig {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.path);
        }
    }

    impl Rig {
        /// A disk of eight sectors, each full of its number.
        fn new(name: &str, read_only: bool) -> Self {
            let path = std::env::temp_dir().join(format!("escape-blk-{}-{name}", std::process::id()));
            let content: Vec<u8> = (0..8u8).flat_map(|sector| [sector; 512]).collect();
            std::fs::write(&path, content).unwrap();
            let disk = Disk::open(&DiskConfig { path: path.clone(), read_only }).unwrap();
            let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x1_0000)]).unwrap();
            let interrupt = Interrupt::new().unwrap();
            let model = model(disk.sectors(), read_only);
            let transport = Arc::new(MmioTransport::new(model, memory.clone(), interrupt.clone()).unwrap());
            bring_up(&transport, 1 << 32, 16, &[(0x1000, 0x2000, 0x3000)]);
            let blk = Blk::new(Arc::clone(&transport), memory.clone(), disk);
            Self { memory, transport, blk, interrupt, path, asked: 0 }
        }

        fn describe(&self, index: u16, address: u64, len: u32, flags: u16) {
            let d = RawDescriptor::from(Descriptor::new(address, len, flags, index + 1));
            self.memory.write_obj(d, GuestAddress(0x1000 + 16 * u64::from(index))).unwrap();
        }

        /// Asks; the status and the used length. 0xee: no status.
        fn ask(&mut self, kind: u32, sector: u64, data: &[(u64, u32)], data_flags: u16) -> (u8, u32) {
            self.memory.write_obj(kind, GuestAddress(HEAD)).unwrap();
            self.memory.write_obj(sector, GuestAddress(HEAD + 8)).unwrap();
            self.memory.write_obj(0xeeu8, GuestAddress(STATUS)).unwrap();
            self.describe(0, HEAD, 16, NEXT);
            let mut index = 1;
            for (address, len) in data {
                self.describe(index, *address, *len, NEXT | data_flags);
                index += 1;
            }
            self.describe(index, STATUS, 1, WRITE);
            self.kick()
        }

        fn kick(&mut self) -> (u8, u32) {
            self.asked += 1;
            let at = (self.asked - 1) % 16;
            self.memory.write_obj(0u16, GuestAddress(0x2004 + 2 * u64::from(at))).unwrap();
            self.memory.write_obj(self.asked, GuestAddress(0x2002)).unwrap();
            self.transport.kicks()[0].write(1).unwrap();
            self.blk.service();
            assert_eq!(self.memory.read_obj::<u16>(GuestAddress(0x3002)).unwrap(), self.asked);
            let used = 0x3004 + 8 * u64::from(at);
            let status = self.memory.read_obj(GuestAddress(STATUS)).unwrap();
            (status, self.memory.read_obj(GuestAddress(used + 4)).unwrap())
        }

        fn data(&self, at: u64) -> u8 {
            self.memory.read_obj(GuestAddress(at)).unwrap()
        }
    }

    #[test]
    fn sectors_are_read_written_and_flushed() {
        let mut rig = Rig::new("rw", false);
        assert_eq!(rig.ask(0, 3, &[(DATA, 512), (0xa000, 1024)], WRITE), (0, 1537));
        assert_eq!([DATA, DATA + 511, 0xa000, 0xa000 + 1023].map(|at| rig.data(at)), [3, 3, 4, 5]);
        rig.memory.write_slice(&[0x77; 512], GuestAddress(DATA)).unwrap();
        assert_eq!(rig.ask(1, 7, &[(DATA, 512)], 0), (0, 1));
        assert_eq!(rig.ask(4, 0, &[], 0), (0, 1));
        assert_eq!(std::fs::read(&rig.path).unwrap()[7 * 512..], [0x77; 512]);
        assert_eq!(rig.ask(8, 0, &[(DATA, 20)], WRITE), (0, 1));
        assert_eq!(rig.data(DATA), b'e');
        let m = rig.blk.metrics();
        assert_eq!((m.reads, m.read_bytes, m.writes, m.written_bytes, m.flushes), (1, 1536, 1, 512, 1));
        assert!(rig.interrupt.raised() > 0);
    }

    #[test]
    fn what_lies_outside_or_is_not_known_is_refused_with_a_status() {
        let mut rig = Rig::new("bounds", false);
        for (kind, sector, len, status) in [
            (0, 8, 512, 1),
            (0, 7, 1024, 1),
            (0, u64::MAX, 512, 1),
            (0, 1 << 55, 512, 1),
            (0, 0, 511, 1),
            (77, 0, 512, 2),
        ] {
            assert_eq!(rig.ask(kind, sector, &[(DATA, len)], WRITE), (status, 1), "{kind} {sector} {len}");
        }
        assert_eq!(rig.ask(0, 0, &[(0xff00, 512)], WRITE).0, 1, "memory that is none");
        assert_eq!((rig.blk.metrics().refused, rig.blk.metrics().failed), (6, 1));
    }

    #[test]
    fn a_read_only_disk_is_not_written() {
        let mut rig = Rig::new("ro", true);
        assert_eq!(rig.ask(1, 0, &[(DATA, 512)], 0), (1, 1));
        assert_eq!(rig.ask(0, 1, &[(DATA, 512)], WRITE), (0, 513));
        assert_eq!(std::fs::read(&rig.path).unwrap()[..512], [0; 512]);
    }

    #[test]
    fn chains_that_make_no_sense_get_no_status_and_hurt_nobody() {
        let mut rig = Rig::new("chains", false);
        assert_eq!(rig.ask(0, 0, &[(DATA, 512)], 0), (0xee, 0), "data of the wrong direction");
        rig.describe(0, HEAD, 16, 0);
        assert_eq!(rig.kick(), (0xee, 0), "one descriptor");
        rig.describe(0, HEAD, 8, NEXT);
        rig.describe(1, STATUS, 1, WRITE);
        assert_eq!(rig.kick(), (0xee, 0), "half a head");
        rig.describe(0, u64::MAX - 3, 16, NEXT);
        assert_eq!(rig.kick(), (0xee, 0), "a head outside memory");
        rig.describe(0, HEAD, 16, NEXT);
        rig.describe(1, STATUS, 1, 0);
        assert_eq!(rig.kick(), (0xee, 0), "a status that cannot be written");
        assert_eq!(rig.blk.metrics().chains_malformed, 5);
        assert_eq!(rig.ask(0, 2, &[(DATA, 512)], WRITE), (0, 513));
    }

    #[test]
    fn a_disk_has_one_writer_and_whole_sectors() {
        let rig = Rig::new("lock", false);
        let again = DiskConfig { path: rig.path.clone(), read_only: false };
        assert!(matches!(Disk::open(&again), Err(DiskError::InUse { .. })));
        let odd = rig.path.with_extension("odd");
        std::fs::write(&odd, [0; 513]).unwrap();
        let refused = Disk::open(&DiskConfig { path: odd.clone(), read_only: true });
        std::fs::remove_file(&odd).unwrap();
        assert!(matches!(refused, Err(DiskError::Size { bytes: 513, .. })));
        assert!(matches!(Disk::open(&DiskConfig { path: odd, read_only: true }), Err(DiskError::Open { .. })));
    }
}
