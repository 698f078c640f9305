//! virtio-mmio, version 2 (virtio 1.2, section 4.2): the registers of one device.
//!
//! Registers are accessed by vCPU threads, queues by the I/O thread. Both go through one mutex, which is held for the
//! work on one frame at most and never across a system call; so when a write of 0 to the status register returns,
//! nobody touches the old queues any more.

use super::device_state::{DeviceModel, DeviceState, INTERRUPT_USED, TransportMetrics};
use super::suppression::wants_interrupt;
use crate::interrupts::Interrupt;
use crate::log_limit::LogLimit;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use virtio_queue::{Error, Queue};
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// Offset of QueueNotify, where ioeventfds listen.
pub const QUEUE_NOTIFY: u64 = 0x50;
const CONFIG: u64 = 0x100;
/// "virt"
const MAGIC: u32 = 0x7472_6976;
const VERSION: u32 = 2;
/// "ESCP"
const VENDOR: u32 = 0x5043_5345;
const LOW: u64 = 0xffff_ffff;
const HIGH: u64 = LOW << 32;

/// One virtio device as the guest sees it.
#[derive(Debug)]
pub struct MmioTransport {
    memory: GuestMemoryMmap,
    state: Mutex<DeviceState>,
    kicks: Box<[EventFd]>,
    interrupt: Interrupt,
    log_limit: LogLimit,
}

impl MmioTransport {
    /// A device of this model, whose queues lie in `memory`.
    pub fn new(model: DeviceModel, memory: GuestMemoryMmap, interrupt: Interrupt) -> io::Result<Self> {
        let kicks = model.queue_sizes_max.iter().map(|_| EventFd::new(EFD_NONBLOCK)).collect::<io::Result<_>>()?;
        Ok(Self { memory, state: Mutex::new(DeviceState::new(model)), kicks, interrupt, log_limit: LogLimit::new() })
    }

    /// The eventfds of the queues, in order: readable when the driver has notified the queue.
    pub fn kicks(&self) -> &[EventFd] {
        &self.kicks
    }

    /// Counters.
    pub fn metrics(&self) -> TransportMetrics {
        self.state().metrics
    }

    /// Resets the device as the driver would, for a restart of the guest.
    pub fn reset(&self) {
        self.state().reset();
        for kick in &self.kicks {
            // Empty or not, it is empty now.
            let _ = kick.read();
        }
    }

    /// Access to the queues for the I/O thread.
    pub fn lock(&self) -> DeviceGuard<'_> {
        DeviceGuard { state: self.state(), transport: self }
    }

    /// Interrupts the driver for the buffers used in a queue, if it wants that; whether it did. `None`: the queue is not in use.
    /// An error means that the queue makes no sense: the device has given up.
    pub fn announce_used(&self, index: usize) -> Result<Option<bool>, Error> {
        let mut device = self.lock();
        let Some((queue, memory)) = device.queue(index) else { return Ok(None) };
        let wanted = wants_interrupt(queue, memory);
        match wanted {
            Ok(true) => device.raise_used(),
            Ok(false) => {}
            Err(_) => device.give_up(),
        }
        wanted.map(Some)
    }

    fn state(&self) -> MutexGuard<'_, DeviceState> {
        // No code panics while it holds the lock, and a panic ends the process anyway.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A read at `offset` of the device's page, on a vCPU thread. What does not exist reads as zero.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        let mut state = self.state();
        if offset >= CONFIG {
            let at = usize::try_from(offset - CONFIG).unwrap_or(usize::MAX);
            let config = state.model().config.get(at..).unwrap_or(&[]);
            data.iter_mut().zip(config).for_each(|(d, c)| *d = *c);
            return;
        }
        match <&mut [u8; 4]>::try_from(data) {
            Ok(word) if offset.is_multiple_of(4) => *word = register(&state, offset).to_le_bytes(),
            _ => state.metrics.accesses_odd += 1,
        }
    }

    /// A write at `offset` of the device's page, on a vCPU thread.
    pub fn write(&self, offset: u64, data: &[u8]) {
        let mut state = self.state();
        let Ok(value) = data.try_into().map(u32::from_le_bytes) else {
            state.metrics.accesses_odd += 1;
            return;
        };
        let wide = u64::from(value);
        let interrupts_before = state.interrupt_status;
        match offset {
            0x14 => state.device_features_sel = value,
            0x20 => state.accept_features(value),
            0x24 => state.driver_features_sel = value,
            0x30 => state.queue_sel = value,
            0x38 => state.set_up_selected(|q| q.set_size(value)),
            0x44 => state.set_up_selected(|q| value <= 1 && q.set_ready(value == 1)),
            QUEUE_NOTIFY => self.notified(value),
            0x64 => state.interrupt_status &= !value,
            0x70 => state.write_status(value, &self.memory),
            0x80 => state.set_up_selected(|q| q.set_descriptors(wide, LOW)),
            0x84 => state.set_up_selected(|q| q.set_descriptors(wide << 32, HIGH)),
            0x90 => state.set_up_selected(|q| q.set_avail(wide, LOW)),
            0x94 => state.set_up_selected(|q| q.set_avail(wide << 32, HIGH)),
            0xa0 => state.set_up_selected(|q| q.set_used(wide, LOW)),
            0xa4 => state.set_up_selected(|q| q.set_used(wide << 32, HIGH)),
            // SHMSel and QueueReset belong to features that are not offered; configuration is read-only.
            _ => state.refuse(),
        }
        let raise = state.interrupt_status & !interrupts_before != 0;
        let (fault, device) = (state.take_fault(), state.model().name);
        drop(state);
        if raise {
            self.interrupt.raise();
        }
        if let Some(error) = fault.filter(|_| self.log_limit.allow()) {
            tracing::warn!(device, %error, "the driver set up a queue that cannot work");
        }
    }

    /// A notification that did not take the ioeventfd's way (another width, or before KVM knew of it).
    fn notified(&self, queue: u32) {
        if let Some(kick) = usize::try_from(queue).ok().and_then(|q| self.kicks.get(q)) {
            let _ = kick.write(1);
        }
    }
}

fn register(state: &DeviceState, offset: u64) -> u32 {
    match offset {
        0x00 => MAGIC,
        0x04 => VERSION,
        0x08 => state.model().id,
        0x0c => VENDOR,
        0x10 => state.offered_half(),
        0x34 => state.selected().map_or(0, |q| u32::from(q.size_max())),
        0x44 => u32::from(state.selected().is_some_and(|q| q.ready())),
        0x60 => state.interrupt_status,
        0x70 => state.status(),
        // No shared memory regions: length and base read as all ones (section 4.2.2.1).
        0xb0..=0xbc => u32::MAX,
        // The configuration never changes, so its generation (0xfc) stays 0.
        _ => 0,
    }
}

/// A device while the I/O thread works on its queues.
pub struct DeviceGuard<'a> {
    state: MutexGuard<'a, DeviceState>,
    transport: &'a MmioTransport,
}

impl<'a> DeviceGuard<'a> {
    /// A queue and the memory it lies in; `None` before DRIVER_OK, and while the device waits for a reset.
    pub fn queue(&mut self, index: usize) -> Option<(&mut Queue, &'a GuestMemoryMmap)> {
        Some((self.state.queue(index)?, &self.transport.memory))
    }

    /// Which life of the device this is: its queues are those of one life only.
    pub fn life(&self) -> u64 {
        self.state.metrics.resets
    }

    /// Whether a feature was negotiated.
    pub fn has(&self, feature: u32) -> bool {
        self.state.has(feature)
    }

    /// The queue's content makes no sense: stop until the driver resets the device, and tell it so.
    pub fn give_up(mut self) {
        self.state.give_up();
        let transport = self.transport;
        drop(self.state);
        transport.interrupt.raise();
    }

    /// Records that buffers were used and interrupts the guest.
    pub fn raise_used(mut self) {
        self.state.interrupt_status |= INTERRUPT_USED;
        let transport = self.transport;
        drop(self.state);
        transport.interrupt.raise();
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::interrupts::Interrupt;
    use vm_memory::GuestAddress;

    fn read32(t: &MmioTransport, offset: u64) -> u32 {
        let mut b = [0xee; 4];
        t.read(offset, &mut b);
        u32::from_le_bytes(b)
    }

    fn write32(t: &MmioTransport, offset: u64, value: u32) {
        t.write(offset, &value.to_le_bytes());
    }

    /// Drives the registers as a driver does at start-up, with `rings[i]` = (descriptors, available, used) of queue i.
    pub(crate) fn bring_up(t: &MmioTransport, features: u64, size: u32, rings: &[(u64, u64, u64)]) {
        write32(t, 0x70, 0);
        write32(t, 0x70, 1);
        write32(t, 0x70, 3);
        for half in 0..2 {
            write32(t, 0x24, half);
            write32(t, 0x20, (features >> (32 * half)) as u32);
        }
        write32(t, 0x70, 11);
        assert_eq!(read32(t, 0x70), 11, "features accepted");
        for (index, ring) in (0..).zip(rings) {
            write32(t, 0x30, index);
            write32(t, 0x38, size);
            for (low, address) in [(0x80, ring.0), (0x90, ring.1), (0xa0, ring.2)] {
                write32(t, low, address as u32);
                write32(t, low + 4, (address >> 32) as u32);
            }
            write32(t, 0x44, 1);
            assert_eq!(read32(t, 0x44), 1);
        }
        write32(t, 0x70, 15);
    }

    fn transport() -> MmioTransport {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x1_0000)]).unwrap();
        let model = DeviceModel {
            name: "test",
            id: 4,
            features: 1 << 32 | 1,
            queue_sizes_max: &[16],
            config: vec![1, 2, 3, 4, 5, 6],
        };
        MmioTransport::new(model, memory, Interrupt::new().unwrap()).unwrap()
    }

    #[test]
    fn a_driver_finds_and_starts_the_device() {
        let t = transport();
        assert_eq!([0, 4, 8, 0x34].map(|o| read32(&t, o)), [MAGIC, 2, 4, 16]);
        write32(&t, 0x14, 1);
        assert_eq!(read32(&t, 0x10), 1);
        bring_up(&t, 1 << 32, 16, &[(0x1000, 0x2000, 0x3000)]);
        assert_eq!(read32(&t, 0x70), 15);
        assert!(t.lock().queue(0).is_some());
        assert_eq!(t.metrics(), TransportMetrics { activations: 1, resets: 1, ..Default::default() });
    }

    #[test]
    fn configuration_is_read_in_any_width_and_never_past_its_end() {
        let t = transport();
        let mut wide = [0xee; 8];
        t.read(0x102, &mut wide);
        assert_eq!(wide, [3, 4, 5, 6, 0, 0, 0, 0]);
        let mut byte = [0xee];
        t.read(0x105, &mut byte);
        assert_eq!(byte, [6]);
        t.read(u64::MAX, &mut byte);
        assert_eq!(byte, [0]);
        t.write(0x100, &[9, 9, 9, 9]);
        t.read(0x100, &mut byte);
        assert_eq!((byte, t.metrics().writes_refused), ([1], 1));
    }

    #[test]
    fn odd_widths_are_counted_and_do_nothing() {
        let t = transport();
        for len in [1, 2, 8] {
            t.write(0x70, &vec![1; len]);
            let mut b = vec![0xee; len];
            t.read(0x70, &mut b);
            assert_eq!(b, vec![0; len]);
        }
        assert_eq!((read32(&t, 0x70), t.metrics().accesses_odd), (0, 6));
    }

    #[test]
    fn giving_up_shows_in_the_status_and_interrupts() {
        let t = transport();
        bring_up(&t, 1 << 32, 16, &[(0x1000, 0x2000, 0x3000)]);
        t.lock().give_up();
        assert_eq!((read32(&t, 0x70), read32(&t, 0x60)), (15 | 64, 2));
        assert_eq!(t.interrupt.raised(), 1);
        assert!(t.lock().queue(0).is_none());
        write32(&t, 0x64, 2);
        assert_eq!(read32(&t, 0x60), 0);
        bring_up(&t, 1 << 32, 16, &[(0x1000, 0x2000, 0x3000)]);
        assert!(t.lock().queue(0).is_some());
    }

    #[test]
    fn a_queue_outside_ram_interrupts_with_needs_reset() {
        let t = transport();
        bring_up(&t, 1 << 32, 16, &[(0x1000, 0x2000, 0xffff_fff0)]);
        assert_eq!(read32(&t, 0x70), 15 | 64);
        assert_eq!(t.interrupt.raised(), 1);
    }
}
