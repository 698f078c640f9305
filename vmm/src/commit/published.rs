//! What a guest published about a slot, after validation.

use super::coverage::Coverage;
use super::live_set::{LiveError, LiveSet};
use escape_abi::meta::meta_flag;
use escape_abi::{SlotMeta, SlotWord};

/// Generations are 48 bits wide (see [`SlotWord`]).
pub const GENERATION_MAX: u64 = (1 << 48) - 1;

/// The published state of one generation of a slot: validated metadata, no slice bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Incarnation of the slot.
    pub incarnation: u64,
    /// Generation.
    pub generation: u64,
    /// Next byte expected from the client.
    pub rcv_nxt: u32,
    /// Next sequence number that will be sent for the first time.
    pub snd_nxt: u32,
    /// Requests answered so far (information).
    pub requests: u64,
    /// Known bits of [`meta_flag`]; others are cleared.
    pub flags: u32,
    /// Live ranges.
    pub live: LiveSet,
}

impl Published {
    /// All bits of [`meta_flag`] that are known.
    pub const FLAGS: u32 = meta_flag::CLOSED;

    /// Validates the metadata that belongs to the quiescent `word`.
    pub fn new(word: SlotWord, meta: &SlotMeta) -> Result<Self, LiveError> {
        Ok(Self {
            incarnation: meta.incarnation,
            generation: word.generation(),
            rcv_nxt: meta.rcv_nxt,
            snd_nxt: meta.snd_nxt,
            requests: meta.requests,
            flags: meta.flags & Self::FLAGS,
            live: LiveSet::new(&meta.live)?,
        })
    }

    /// The slice's last generation: its connection is finished.
    pub fn closed(&self) -> bool {
        self.flags & meta_flag::CLOSED != 0
    }

    /// What a commit of this generation covers.
    pub fn coverage(&self) -> Coverage {
        Coverage {
            incarnation: self.incarnation,
            generation: self.generation,
            snd_nxt: self.snd_nxt,
            rcv_nxt: self.rcv_nxt,
        }
    }
}
