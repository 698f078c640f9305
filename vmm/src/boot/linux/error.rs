//! Errors of booting a Linux kernel.

use vm_memory::GuestMemoryError;

/// Why a kernel could not be made to run.
#[derive(Debug, thiserror::Error)]
pub enum LinuxError {
    /// The file is no kernel for this machine.
    #[error("the kernel file is {found}; wanted: an x86-64 bzImage (`vmlinuz`) or an ELF kernel (`vmlinux`)")]
    NoKernel {
        /// What it is.
        found: String,
    },
    /// The kernel could not be loaded.
    #[error("the kernel cannot be loaded: {0}")]
    Load(#[from] linux_loader::loader::Error),
    /// Kernel and initial file system do not fit.
    #[error(
        "{bytes} bytes of RAM are too few: the kernel needs them up to {kernel_end:#x}, its initial file system has \
         {initrd_bytes} bytes; set ram_mib to {wanted_mib} or more"
    )]
    NoRoom {
        /// RAM, bytes.
        bytes: u64,
        /// Where the unpacked kernel ends.
        kernel_end: u64,
        /// Size of the initial file system.
        initrd_bytes: u64,
        /// RAM that is enough, MiB.
        wanted_mib: u64,
    },
    /// The command line does not fit.
    #[error("the kernel's command line has {len} bytes; this kernel takes {max} at most, and no zero byte")]
    CommandLine {
        /// Its length.
        len: usize,
        /// The most.
        max: usize,
    },
    /// Guest RAM could not be written.
    #[error("writing {what} at {address:#x}: {source}")]
    Write {
        /// What was written.
        what: &'static str,
        /// Where.
        address: u64,
        /// Why not.
        source: GuestMemoryError,
    },
    /// KVM refused a part of the vCPU's first state.
    #[error("{call} for the boot vCPU: {source}")]
    Vcpu {
        /// Which ioctl.
        call: &'static str,
        /// KVM's answer.
        source: kvm_ioctls::Error,
    },
    /// KVM does not know a machine register that the kernel needs.
    #[error("KVM_SET_MSRS for the boot vCPU: only {set} of {wanted} registers were set")]
    Msrs {
        /// Registers set.
        set: usize,
        /// Registers given.
        wanted: usize,
    },
}
