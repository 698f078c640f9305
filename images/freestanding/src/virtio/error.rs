//! Why a device could not be used.

use core::fmt;

/// An error of a device's initialisation or of its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VirtioError {
    /// No virtio-mmio device of version 2 there: what the magic, version and device id registers said.
    NoDevice {
        /// Magic value register.
        magic: u32,
        /// Version register.
        version: u32,
        /// Device id register.
        id: u32,
    },
    /// The status register did not become 0 after a reset.
    NoReset,
    /// The device lacks a feature that the driver needs: the bits that it lacks.
    Features(u64),
    /// The device did not accept the features that it had offered.
    Refused,
    /// The queue does not exist, or is in use: its index and its greatest size.
    Queue(u32, u32),
    /// The device did not answer in time.
    Silent,
    /// The device returned a buffer that it did not have, or with an impossible length.
    Nonsense,
}

impl fmt::Display for VirtioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDevice { magic, version, id } => {
                write!(f, "no such virtio-mmio device: magic {magic:#x}, version {version}, device id {id}")
            }
            Self::NoReset => f.write_str("the device does not finish its reset"),
            Self::Features(missing) => write!(f, "the device lacks the features {missing:#x}"),
            Self::Refused => f.write_str("the device refuses the features that it offered"),
            Self::Queue(index, max) => write!(f, "queue {index} is not usable, its greatest size is {max}"),
            Self::Silent => f.write_str("the device does not answer"),
            Self::Nonsense => f.write_str("the device returned a buffer that it did not have"),
        }
    }
}

impl core::error::Error for VirtioError {}
