//! Errors of the VM as a whole.

use crate::boot::BootError;
use crate::boot::linux::LinuxError;
use crate::devices::virtio::blk::DiskError;
use crate::devices::virtio::net::TapError;
use crate::devices::virtio::vsock::VsockError;
use crate::interrupts::InterruptError;
use crate::memory::MemoryError;
use crate::vcpu::VcpuError;
use std::io;

/// Why a VM could not be built or run.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// `/dev/kvm` could not be opened.
    #[error("/dev/kvm: {source}{}", kvm_advice(.source))]
    OpenKvm {
        /// The kernel's answer.
        source: io::Error,
    },
    /// This KVM cannot do something that is needed.
    #[error("this KVM has no {0}: a newer kernel is needed")]
    Capability(&'static str),
    /// An ioctl on the VM failed.
    #[error("{call}: {source}")]
    Kvm {
        /// Which one.
        call: &'static str,
        /// KVM's answer.
        source: kvm_ioctls::Error,
    },
    /// A memory slot could not be added.
    #[error("memory slot {slot} ({bytes} bytes at {gpa:#x}): {source}")]
    MemorySlot {
        /// Which slot of KVM's.
        slot: u32,
        /// Guest-physical address.
        gpa: u64,
        /// Its size.
        bytes: u64,
        /// KVM's answer.
        source: kvm_ioctls::Error,
    },
    /// An eventfd or another descriptor could not be made.
    #[error("{what}: {source}")]
    Io {
        /// What for.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Guest memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The image.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// A Linux kernel.
    #[error(transparent)]
    Linux(#[from] LinuxError),
    /// Interrupts.
    #[error(transparent)]
    Interrupts(#[from] InterruptError),
    /// A vCPU.
    #[error(transparent)]
    Vcpu(#[from] VcpuError),
    /// A tap.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// A disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The vsock.
    #[error(transparent)]
    Vsock(#[from] VsockError),
    /// Started while it runs, or asked for something only a running guest has.
    #[error("the guest is {0}")]
    WrongTime(&'static str),
    /// A hang was to be made outside of every slice.
    #[error("the guest was at work on a slice at every look; try again")]
    AtWork,
    /// The vCPU was lost with a thread that could not be stopped; only a new VM helps.
    #[error("the vCPU is lost: its thread could not be stopped earlier")]
    VcpuLost,
}

fn kvm_advice(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => " (add this user to the group that owns the device, usually `kvm`)",
        Some(libc::ENOENT) => " (no KVM: load kvm_intel or kvm_amd, or switch on virtualization in the firmware)",
        Some(libc::EBUSY) => " (another hypervisor uses the processor's virtualization)",
        _ => "",
    }
}
