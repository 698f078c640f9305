//! What a guest published about a slot, after validation.

use super::connections::{Connection, Connections, Place, Places};
use super::coverage::Coverage;
use super::live_set::{LiveError, LiveSet};
use escape_abi::meta::{connection_bit, meta_flag};
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
    /// The slice's connections.
    pub connections: Connections,
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

    /// Validates the metadata that belongs to the quiescent `word`; `places` is what this VMM knows of the slice's connections.
    ///
    /// `None`: there is a connection in a place of which the guest has not told yet whose it is (or never will).
    pub fn new(word: SlotWord, meta: &SlotMeta, places: &Places) -> Result<Option<Self>, LiveError> {
        let live = LiveSet::new(&meta.live)?;
        let mut connections = Connections::default();
        let uses = meta.numbers.iter().zip(meta.serials).zip(places).enumerate();
        for (place, ((numbers, serial), known)) in uses {
            if meta.connections & connection_bit::present(place) == 0 {
                continue;
            }
            let flow = match *known {
                Place::Bound { flow, serial: bound } if bound == serial => flow,
                Place::Left { serial: left } if left == serial => continue,
                _ => return Ok(None),
            };
            let ended = meta.connections & connection_bit::ended(place) != 0;
            let (rcv_nxt, snd_nxt) = (numbers.rcv_nxt, numbers.snd_nxt);
            connections.set(place, Connection { flow, serial, rcv_nxt, snd_nxt, ended });
        }
        Ok(Some(Self {
            incarnation: meta.incarnation,
            generation: word.generation(),
            connections,
            requests: meta.requests,
            flags: meta.flags & Self::FLAGS,
            live,
        }))
    }

    /// The slice's last generation: its connections are finished.
    pub fn closed(&self) -> bool {
        self.flags & meta_flag::CLOSED != 0
    }

    /// What a commit of this generation covers.
    pub fn coverage(&self) -> Coverage {
        Coverage { incarnation: self.incarnation, generation: self.generation, connections: self.connections }
    }
}
