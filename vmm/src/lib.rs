//! A small VMM for slice guests, of rust-vmm parts.
//!
//! It hosts one guest, carries its frames, and knows nothing of the cluster: whoever owns a [`Vm`] runs its I/O thread
//! and decides what happens to each frame. The folders are the architecture: [`boot`], [`memory`], [`vcpu`],
//! [`devices`], [`control`] (the rings between host and guest), and [`commit`] (hold, capture, release).
//!
//! The guest is hostile. Nothing that it writes is believed, bounds are checked before anything is copied, memory that
//! it shares is read by volatile or atomic access only, and no guest can make this crate panic.

pub mod boot;
pub mod commit;
pub mod config;
pub mod control;
pub mod devices;
pub mod error;
pub mod exit;
pub mod interrupts;
pub mod log_limit;
pub mod machine;
pub mod memory;
pub mod metrics;
pub mod vcpu;
pub mod vm;

pub use boot::BootParamsSeed;
pub use boot::linux::LinuxGuest;
pub use config::{GuestImage, VmConfig};
pub use control::Control;
pub use devices::serial::Console;
pub use devices::virtio::blk::DiskConfig;
pub use devices::virtio::net::{FrameBuf, Net, RxOutcome, Tap, TapSource, TxFrame};
pub use devices::virtio::rng::Rng;
pub use devices::virtio::vsock::VsockConfig;
pub use error::VmError;
pub use exit::GuestExit;
pub use memory::{SlotMemory, SlotTable};
pub use metrics::VmMetrics;
pub use vcpu::Fault;
pub use vm::{Vm, VmFds};
