//! Why a guest by itself ended.

use escape_vmm::{GuestExit, VmError};

/// Errors of [`SoloNode`](super::SoloNode).
#[derive(Debug, thiserror::Error)]
pub enum SoloError {
    /// The machine could not be built.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// A call to the kernel.
    #[error("{what}: {source}")]
    Os {
        /// What was tried.
        what: &'static str,
        /// What the kernel says.
        source: std::io::Error,
    },
    /// The guest stopped by itself.
    #[error("{exit}\nthe end of its console:\n{tail}")]
    Ended {
        /// Why.
        exit: GuestExit,
        /// The end of its console.
        tail: String,
    },
    /// The guest did not come up.
    #[error(
        "the guest has not said that it is ready within {limit_ms} ms of its start; its processor runs still.\n\
         exits of its processor: {exits}\nthe end of its console:\n{tail}"
    )]
    NotReady {
        /// The limit.
        limit_ms: u128,
        /// Counters of vCPU exits: all zero means that it never reached a device.
        exits: String,
        /// The end of its console.
        tail: String,
    },
    /// A kernel said nothing.
    #[error(
        "the kernel has said nothing on its serial port for {limit_s} s; its processor stands at {at:#x}.\n\
         exits of its processor: {exits}\nIs \"console=ttyS0\" on its command line?"
    )]
    Silent {
        /// The limit, seconds.
        limit_s: u64,
        /// Instruction pointer.
        at: u64,
        /// Counters of vCPU exits.
        exits: String,
    },
}

impl SoloError {
    /// For `map_err` at a system call.
    pub(super) fn os(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Os { what, source }
    }
}
