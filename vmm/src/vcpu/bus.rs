//! Where the accesses of a vCPU go that leave the guest.

use super::metrics::ExitCounters;
use crate::devices::pci::HostBridge;
use crate::devices::power::device as power;
use crate::devices::serial::SerialPort;
use crate::devices::virtio::mmio::MmioTransport;
use crate::exit::GuestExit;
use crate::log_limit::LogLimit;
use escape_abi::layout::{ARENA_BASE, DOORBELL, MMIO_BASE, MMIO_STRIDE, SLOT_SIZE, SLOTS_MAX, device};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use vmm_sys_util::eventfd::EventFd;

/// A guest writes 4 bytes here to end itself: 0 on purpose, anything else is its crash code.
pub const CRASH_PORT: u16 = 0x500;
const ARENA_END: u64 = ARENA_BASE + SLOTS_MAX as u64 * SLOT_SIZE as u64;

/// The devices as vCPU threads reach them.
#[derive(Debug)]
pub struct Bus {
    /// The console.
    pub serial: Arc<SerialPort>,
    /// PCI, of which a Linux kernel wants to see something.
    pub pci: HostBridge,
    /// virtio-net's registers.
    pub net: Arc<MmioTransport>,
    /// virtio-rng's registers.
    pub rng: Arc<MmioTransport>,
    /// Registers of the devices that only a stock guest has, by their numbers.
    pub stock: Vec<(u64, Arc<MmioTransport>)>,
    /// Rung by the guest for the control ring.
    pub doorbell: Arc<EventFd>,
    /// Counters.
    pub counters: ExitCounters,
    /// For accesses that reach nothing.
    pub log_limit: LogLimit,
}

impl Bus {
    /// The guest reads memory that is no memory. `Some`: it must stop.
    pub fn mmio_read(&self, gpa: u64, data: &mut [u8]) -> Option<GuestExit> {
        self.counters.mmio.fetch_add(1, Relaxed);
        match self.device(gpa) {
            Some((device, offset)) => device.read(offset, data),
            None => {
                data.fill(0xff);
                return self.nothing_there(gpa, false);
            }
        }
        None
    }

    /// The guest writes to memory that is no memory. `Some`: it must stop.
    pub fn mmio_write(&self, gpa: u64, data: &[u8]) -> Option<GuestExit> {
        self.counters.mmio.fetch_add(1, Relaxed);
        match self.device(gpa) {
            Some((device, offset)) => device.write(offset, data),
            None if gpa == DOORBELL => {
                // Another width than the ioeventfd's.
                let _ = self.doorbell.write(1);
            }
            None => return self.nothing_there(gpa, true),
        }
        None
    }

    /// The guest reads a port.
    pub fn port_read(&self, port: u16, data: &mut [u8]) {
        self.counters.ports.fetch_add(1, Relaxed);
        data.fill(0xff);
        if self.pci.read(port, data) {
            return;
        }
        if let Some(value) = power::read(port) {
            data.fill(value);
        }
        if let (Some(offset), Some(first)) = (SerialPort::offset(port), data.first_mut()) {
            *first = self.serial.read(offset);
        }
    }

    /// The guest writes a port. `Some`: it must stop.
    pub fn port_write(&self, port: u16, data: &[u8]) -> Option<GuestExit> {
        self.counters.ports.fetch_add(1, Relaxed);
        if port == CRASH_PORT {
            let mut code = [0; 4];
            code.iter_mut().zip(data).for_each(|(c, d)| *c = *d);
            return Some(match u32::from_le_bytes(code) {
                0 => GuestExit::Shutdown,
                code => GuestExit::Crash { code },
            });
        }
        self.pci.write(port, data);
        if let Some(exit) = data.first().and_then(|value| power::write(port, *value)) {
            return Some(exit);
        }
        if let Some(offset) = SerialPort::offset(port) {
            // A repeated string instruction gives several bytes for the same port.
            data.iter().for_each(|byte| self.serial.write(offset, *byte));
        }
        None
    }

    /// Registers of all devices as after power-on, for a new guest.
    pub fn reset(&self) {
        self.net.reset();
        self.rng.reset();
        self.stock.iter().for_each(|(_, device)| device.reset());
        self.serial.reset();
        self.pci.reset();
    }

    fn device(&self, gpa: u64) -> Option<(&MmioTransport, u64)> {
        let offset = gpa.checked_sub(MMIO_BASE)?;
        let device = match offset / MMIO_STRIDE {
            device::NET => &self.net,
            device::RNG => &self.rng,
            other => &self.stock.iter().find(|(number, _)| *number == other)?.1,
        };
        Some((device, offset % MMIO_STRIDE))
    }

    fn nothing_there(&self, gpa: u64, write: bool) -> Option<GuestExit> {
        if (ARENA_BASE..ARENA_END).contains(&gpa) {
            self.counters.unleased_arena.fetch_add(1, Relaxed);
            return Some(GuestExit::UnleasedArena { gpa, write });
        }
        self.counters.mmio_unknown.fetch_add(1, Relaxed);
        if self.log_limit.allow() {
            tracing::warn!("the guest accesses {gpa:#x} (write: {write}), where nothing is");
        }
        None
    }
}
