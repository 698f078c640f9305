//! What a guest by itself must be told.

use crate::config::ServiceConfig;
use std::borrow::Cow;

/// One guest.
#[derive(Clone, Debug)]
pub struct SoloConfig {
    /// The image, an ELF file.
    pub image: Cow<'static, [u8]>,
    /// The id that the guest writes into its slots.
    pub image_id: u64,
    /// Ordinary RAM, MiB.
    pub ram_mib: u32,
    /// Slots of the arena, a multiple of 64; all of them are leased to the guest.
    pub n_slots: u32,
    /// Name of the tap; attached to if it exists, made otherwise. None: no network.
    pub tap: Option<String>,
    /// What clients see.
    pub service: ServiceConfig,
    /// Given to the guest as it is.
    pub cmdline: String,
}
