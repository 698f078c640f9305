//! What a VM is made of.

use crate::boot::BootParamsSeed;
use crate::devices::serial::Console;
use crate::devices::virtio::net::TapSource;
use std::borrow::Cow;

/// Everything [`crate::Vm::new`] needs to know.
#[derive(Debug)]
pub struct VmConfig {
    /// RAM, a multiple of 2 MiB from 4 MiB to just under 2 GiB.
    pub ram_bytes: u64,
    /// Slots of the cell's arena, a multiple of 64 up to 65,536.
    pub n_slots: u32,
    /// What the guest is told.
    pub params: BootParamsSeed,
    /// The guest: a static x86-64 ELF executable.
    pub image: Cow<'static, [u8]>,
    /// The guest's network interface.
    pub tap: Option<TapSource>,
    /// The interface of the ingress mirror, which the guest never sees.
    pub mirror: Option<TapSource>,
    /// Where the serial port writes.
    pub console: Console,
}
