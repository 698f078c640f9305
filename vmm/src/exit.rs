//! Why a guest stopped.

use std::io;
use std::sync::{Mutex, PoisonError};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// Why the guest runs no more. The VMM itself goes on in every case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestExit {
    /// The guest reported its own end: a non-zero code written to port 0x500.
    Crash {
        /// What it wrote.
        code: u32,
    },
    /// The guest ended on purpose: 0 written to port 0x500, or a shutdown event.
    Shutdown,
    /// The guest asked for a reset: boot it again.
    Reset,
    /// A fault while handling a fault while handling a fault.
    TripleFault {
        /// Instruction pointer, for the log.
        rip: u64,
    },
    /// The guest touched arena addresses whose lease is not mapped here.
    UnleasedArena {
        /// Guest-physical address.
        gpa: u64,
        /// It wrote.
        write: bool,
    },
    /// KVM could not go on (`KVM_EXIT_INTERNAL_ERROR`), for instance with an instruction it cannot emulate.
    InternalError {
        /// KVM's code.
        suberror: u32,
        /// Instruction pointer.
        rip: u64,
    },
    /// The processor refused the guest's state.
    FailEntry {
        /// The hardware's reason.
        reason: u64,
    },
    /// An exit that this VMM does not know.
    Unknown {
        /// `KVM_EXIT_*`.
        reason: u32,
    },
    /// `KVM_RUN` itself failed.
    RunFailed {
        /// The error.
        errno: i32,
    },
}

impl std::fmt::Display for GuestExit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Crash { code } => write!(f, "the guest reported a crash, code {code:#x}"),
            Self::Shutdown => write!(f, "the guest shut down"),
            Self::Reset => write!(f, "the guest asked for a reset"),
            Self::TripleFault { rip } => write!(f, "triple fault at {rip:#x}"),
            Self::UnleasedArena { gpa, write } => {
                let what = if *write { "wrote to" } else { "read from" };
                write!(f, "the guest {what} arena address {gpa:#x}, whose lease is not here")
            }
            Self::InternalError { suberror, rip } => write!(f, "KVM internal error {suberror} at {rip:#x}"),
            Self::FailEntry { reason } => write!(f, "the processor refused to enter the guest, reason {reason:#x}"),
            Self::Unknown { reason } => write!(f, "unknown exit {reason}"),
            Self::RunFailed { errno } => write!(f, "KVM_RUN: {}", io::Error::from_raw_os_error(*errno)),
        }
    }
}

/// Where the vCPU thread leaves the reason for the I/O thread.
#[derive(Debug)]
pub struct ExitReport {
    reason: Mutex<Option<GuestExit>>,
    event: EventFd,
}

impl ExitReport {
    /// Nothing reported.
    pub fn new() -> io::Result<Self> {
        Ok(Self { reason: Mutex::new(None), event: EventFd::new(EFD_NONBLOCK)? })
    }

    /// Readable when a reason waits.
    pub fn event(&self) -> &EventFd {
        &self.event
    }

    /// Reports; the first reason stays.
    pub fn report(&self, exit: GuestExit) {
        self.slot().get_or_insert(exit);
        let _ = self.event.write(1);
    }

    /// Takes the reason.
    pub fn take(&self) -> Option<GuestExit> {
        let _ = self.event.read();
        self.slot().take()
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<GuestExit>> {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
