//! Errors of the library.

use escape_abi::layout::SLOT_SIZE;
use std::io;

/// Why the library could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// A call to the kernel.
    #[error("{call}: {source}")]
    Call {
        /// Which.
        call: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The agent is not there, or has gone.
    #[error("the agent at {path}: {source}; does escape-agent run in this guest, and is the guest a cell's?")]
    Agent {
        /// Its socket.
        path: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Memory that a cell's guest has and this machine does not.
    #[error(
        "no memory of a cell at {at:#x}: is this a guest of a cell, with \"slots\" in its image file and the modules dax_hmem \
         and device_dax loaded?"
    )]
    NoDevice {
        /// Where it should be.
        at: u64,
    },
    /// The control pages are not as the host makes them.
    #[error("the control pages are not those of an arena of {bytes} bytes")]
    ControlPages {
        /// The arena's size.
        bytes: usize,
    },
    /// The host has more slots than the arena has room for.
    #[error("the arena has {bytes} bytes, and its {slots} slots need {}: is it the device of this cell?", u64::from(*.slots) * SLOT_SIZE as u64)]
    ArenaTooSmall {
        /// The arena's size.
        bytes: usize,
        /// Slots, by the control pages.
        slots: u32,
    },
    /// The agent speaks another version, or nonsense.
    #[error("the agent said what this library does not know")]
    Protocol,
    /// The agent has no slot for this connection.
    #[error("the connection of {peer} is no slice: {why}")]
    NotAdopted {
        /// The client.
        peer: String,
        /// Why.
        why: &'static str,
    },
    /// The slot holds no sound slice.
    #[error("slot {slot} holds no sound slice of a Linux process: {why}")]
    BadSlot {
        /// Which.
        slot: u32,
        /// What is wrong.
        why: &'static str,
    },
    /// The connection could not be made of its capsule.
    #[error(transparent)]
    Tcp(#[from] escape_tcp::TcpError),
}

impl ProcessError {
    /// For `map_err`.
    pub fn call<E: Into<io::Error>>(call: &'static str) -> impl Fn(E) -> Self {
        move |source| Self::Call { call, source: source.into() }
    }
}
