//! The devices that only a stock guest has: console, vsock and disks, each at a place of its own among the virtio-mmio devices.

use crate::devices::serial::Console;
use crate::devices::virtio::blk::{self, Blk, BlkMetrics, DISKS_MAX, Disk, DiskConfig, DiskError};
use crate::devices::virtio::console::{self, ConsoleMetrics, VirtioConsole};
use crate::devices::virtio::device_state::DeviceModel;
use crate::devices::virtio::mmio::MmioTransport;
use crate::devices::virtio::vsock::{self, Vsock, VsockConfig, VsockMetrics};
use crate::error::VmError;
use escape_abi::layout::device;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use vm_memory::GuestMemoryMmap;

/// virtio-mmio device number of the console; the numbers before it are every guest's.
pub const CONSOLE: u64 = device::RNG + 1;
/// That of the vsock.
pub const VSOCK: u64 = CONSOLE + 1;
/// That of the first disk; the others follow.
pub const FIRST_DISK: u64 = VSOCK + 1;

/// What a guest is to have.
#[derive(Debug, Default)]
pub struct StockPlan {
    console: bool,
    vsock: Option<VsockConfig>,
    disks: Vec<Disk>,
}

impl StockPlan {
    /// For a stock guest; opens its disks.
    pub fn new(vsock: Option<VsockConfig>, disks: &[DiskConfig]) -> Result<Self, DiskError> {
        if disks.len() > DISKS_MAX {
            return Err(DiskError::TooMany { count: disks.len(), max: DISKS_MAX });
        }
        Ok(Self { console: true, vsock, disks: disks.iter().map(Disk::open).collect::<Result<_, _>>()? })
    }

    /// Numbers and models of the devices.
    pub fn models(&self) -> Vec<(u64, DeviceModel)> {
        let console = self.console.then(|| (CONSOLE, console::config::model()));
        let vsock = self.vsock.as_ref().map(|vsock| (VSOCK, vsock::config::model(vsock.cid)));
        let disks = (FIRST_DISK..).zip(&self.disks);
        let disks = disks.map(|(place, disk)| (place, blk::config::model(disk.sectors(), disk.is_read_only())));
        console.into_iter().chain(vsock).chain(disks).collect()
    }

    /// The devices, behind the transports of [`StockPlan::models`]. `sink`: where the console writes.
    pub fn attach(
        self,
        transports: &[(u64, Arc<MmioTransport>)],
        memory: &GuestMemoryMmap,
        sink: Console,
    ) -> Result<StockDevices, VmError> {
        let of = |wanted: u64| transports.iter().find(|(place, _)| *place == wanted).map(|(_, t)| Arc::clone(t));
        let console = of(CONSOLE).map(|transport| VirtioConsole::new(transport, sink));
        let vsock = self.vsock.as_ref().zip(of(VSOCK)).map(|(config, transport)| Vsock::new(transport, config));
        let disks = (FIRST_DISK..).zip(self.disks);
        let disks = disks.filter_map(|(place, disk)| Some(Blk::new(of(place)?, memory.clone(), disk)));
        let kicks = transports.iter().flat_map(|(_, transport)| transport.kicks()).map(AsRawFd::as_raw_fd);
        let kicks: Vec<RawFd> = kicks.collect();
        Ok(StockDevices { console, vsock: vsock.transpose()?, disks: disks.collect(), kicks })
    }
}

/// Devices of a stock guest; used by the I/O thread alone.
#[derive(Debug)]
pub struct StockDevices {
    console: Option<VirtioConsole>,
    vsock: Option<Vsock>,
    disks: Vec<Blk>,
    kicks: Vec<RawFd>,
}

impl StockDevices {
    /// Does what the guest asks for, and programs on the host; whether there may be more at once.
    pub fn service(&mut self) -> bool {
        self.disks.iter_mut().for_each(Blk::service);
        if let Some(console) = &mut self.console {
            console.service();
        }
        self.vsock.as_mut().is_some_and(Vsock::service)
    }

    /// Types into the console; how many bytes it took.
    pub fn type_into_console(&mut self, bytes: &[u8]) -> usize {
        self.console.as_mut().map_or(0, |console| console.input(bytes))
    }

    /// Descriptors that say that [`StockDevices::service`] has something to do. They stay the same.
    pub fn fds(&self) -> Vec<RawFd> {
        self.kicks.iter().copied().chain(self.vsock.as_ref().map(Vsock::raw_fd)).collect()
    }

    /// Counters.
    pub fn metrics(&self) -> StockMetrics {
        StockMetrics {
            console: self.console.as_ref().map(VirtioConsole::metrics).unwrap_or_default(),
            console_dropped_bytes: self.console.as_ref().map_or(0, VirtioConsole::dropped_bytes),
            vsock: self.vsock.as_ref().map(Vsock::metrics).unwrap_or_default(),
            disks: self.disks.iter().fold(BlkMetrics::default(), |sum, disk| sum.and(disk.metrics())),
        }
    }
}

/// Counters of all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StockMetrics {
    /// The console.
    pub console: ConsoleMetrics,
    /// Bytes of its output that were dropped, because they were too many.
    pub console_dropped_bytes: u64,
    /// The vsock.
    pub vsock: VsockMetrics,
    /// Disks, all together.
    pub disks: BlkMetrics,
}
