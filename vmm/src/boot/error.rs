//! Errors of the boot module.

use vm_memory::GuestMemoryError;

/// Why an image could not be made to run.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The file is not what this VMM boots.
    #[error("the image is {found}; wanted: a static x86-64 ELF executable (ET_EXEC) linked at 1 MiB or above")]
    WrongKind {
        /// What it is.
        found: String,
    },
    /// A table or segment does not lie inside the file.
    #[error("the image is damaged: {what} (program header {index})")]
    Damaged {
        /// What is wrong.
        what: &'static str,
        /// Which program header.
        index: usize,
    },
    /// A segment does not fit the guest's memory.
    #[error("segment {index} at {address:#x}, {bytes} bytes, does not fit between {low:#x} and {high:#x}: more RAM?")]
    NoRoom {
        /// Which program header.
        index: usize,
        /// Its physical address.
        address: u64,
        /// Its size in memory.
        bytes: u64,
        /// Lowest address an image may use.
        low: u64,
        /// End of RAM.
        high: u64,
    },
    /// The entry point lies in no executable segment.
    #[error("the entry point {entry:#x} lies in no executable segment")]
    Entry {
        /// The entry point.
        entry: u64,
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
    /// The command line does not fit.
    #[error("the command line has {len} bytes; {max} at most")]
    CommandLine {
        /// Its length.
        len: usize,
        /// The most.
        max: usize,
    },
    /// KVM refused a part of the vCPU's first state.
    #[error("{call} for vCPU {vcpu}: {source}")]
    Vcpu {
        /// Which ioctl.
        call: &'static str,
        /// Which vCPU.
        vcpu: u64,
        /// KVM's answer.
        source: kvm_ioctls::Error,
    },
}
