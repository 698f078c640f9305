//! What a guest by itself must be told.

use escape_vmm::GuestImage;

/// One guest.
#[derive(Debug)]
pub struct SoloConfig {
    /// What is booted, with what it is told.
    pub guest: GuestImage,
    /// Ordinary RAM, MiB.
    pub ram_mib: u32,
    /// Slots of the arena, a multiple of 64; all of them are leased to a freestanding guest.
    pub n_slots: u32,
    /// Name of the tap; attached to if it exists, made otherwise. None: no network.
    pub tap: Option<String>,
    /// Where keys go that are typed.
    pub keys: KeysTo,
}

/// One of a guest's consoles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeysTo {
    /// The serial port.
    Serial,
    /// The virtio console of a stock guest.
    Virtio,
}
