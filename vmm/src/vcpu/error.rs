//! Errors of vCPU threads.

use std::io;
use std::time::Duration;

/// What can go wrong with a vCPU and its thread.
#[derive(Debug, thiserror::Error)]
pub enum VcpuError {
    /// An ioctl failed.
    #[error("{call} for vCPU {vcpu}: {source}")]
    Kvm {
        /// Which one.
        call: &'static str,
        /// Which vCPU.
        vcpu: u64,
        /// KVM's answer.
        source: kvm_ioctls::Error,
    },
    /// The signal that interrupts vCPUs could not be installed.
    #[error("cannot install the handler of real-time signal {signal}: {source}")]
    Signal {
        /// Its number.
        signal: i32,
        /// The kernel's answer.
        source: io::Error,
    },
    /// No thread.
    #[error("cannot start the thread of vCPU {vcpu}: {source}")]
    Spawn {
        /// Which vCPU.
        vcpu: u64,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The thread did not stop in time; most likely its console sink blocks.
    #[error("the thread of vCPU {vcpu} did not stop within {waited:?}")]
    Stuck {
        /// Which vCPU.
        vcpu: u64,
        /// How long it was waited for.
        waited: Duration,
    },
}
