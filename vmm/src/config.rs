//! What a VM is made of.

use crate::boot::BootParamsSeed;
use crate::boot::linux::LinuxGuest;
use crate::devices::serial::Console;
use crate::devices::stock::StockPlan;
use crate::devices::virtio::blk::DiskError;
use crate::devices::virtio::net::TapSource;
use std::borrow::Cow;

/// Everything [`crate::Vm::new`] needs to know.
#[derive(Debug)]
pub struct VmConfig {
    /// RAM, a multiple of 2 MiB from 4 MiB to just under 2 GiB.
    pub ram_bytes: u64,
    /// Slots of the cell's arena, a multiple of 64 up to 65,536.
    pub n_slots: u32,
    /// What is booted.
    pub guest: GuestImage,
    /// The guest's network interface.
    pub tap: Option<TapSource>,
    /// The interface of the ingress mirror, which the guest never sees.
    pub mirror: Option<TapSource>,
    /// Where the serial port writes.
    pub console: Console,
    /// Where the virtio console of a stock guest writes.
    pub virtio_console: Console,
}

/// A guest: what is loaded, and what it is told.
#[derive(Debug)]
pub enum GuestImage {
    /// A guest that was made for this VMM.
    Freestanding {
        /// A static x86-64 ELF executable.
        image: Cow<'static, [u8]>,
        /// What it is told.
        params: BootParamsSeed,
    },
    /// A stock Linux kernel.
    Linux(LinuxGuest),
}

impl GuestImage {
    /// The devices that only a stock guest has.
    pub fn stock_devices(&self) -> Result<StockPlan, DiskError> {
        match self {
            Self::Freestanding { .. } => Ok(StockPlan::default()),
            Self::Linux(guest) => StockPlan::new(guest.vsock.clone(), &guest.disks),
        }
    }

    /// Its vCPUs.
    pub const fn vcpus(&self) -> u8 {
        match self {
            Self::Freestanding { .. } => 1,
            Self::Linux(guest) => guest.vcpus,
        }
    }

    /// The MAC address of its network interface.
    pub const fn mac(&self) -> [u8; 6] {
        match self {
            Self::Freestanding { params, .. } => params.mac,
            Self::Linux(guest) => guest.mac,
        }
    }
}
