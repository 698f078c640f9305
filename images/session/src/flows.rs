//! Which connection is which slot.

use core::hash::{BuildHasher, Hasher};
use escape_abi::message::Flow;
use escape_abi::meta::CONNECTIONS_MAX;
use hashbrown::HashMap;

/// Connections of this guest: at most [`CONNECTIONS_MAX`] per slot. Keyed by a secret, for clients choose their own ports.
#[derive(Debug)]
pub(crate) struct FlowTable(HashMap<Flow, u32, Key>);

impl FlowTable {
    pub(crate) fn new(seed: u64) -> Self {
        Self(HashMap::with_hasher(Key(seed | 1)))
    }
    /// Slot and place of a connection.
    pub(crate) fn get(&self, flow: Flow) -> Option<(u32, usize)> {
        self.0.get(&flow).map(|at| (at / CONNECTIONS_MAX as u32, *at as usize % CONNECTIONS_MAX))
    }
    /// Enters a flow unless it is there already.
    pub(crate) fn insert(&mut self, flow: Flow, slot: u32, place: usize) -> bool {
        match self.0.entry(flow) {
            hashbrown::hash_map::Entry::Occupied(_) => false,
            hashbrown::hash_map::Entry::Vacant(entry) => {
                entry.insert(slot * CONNECTIONS_MAX as u32 + (place % CONNECTIONS_MAX) as u32);
                true
            }
        }
    }
    pub(crate) fn remove(&mut self, flow: Flow) {
        self.0.remove(&flow);
    }
}

/// The slice of each client address, where all connections of a client are one slice.
#[derive(Debug)]
pub(crate) struct ClientTable {
    slots: HashMap<[u8; 4], u32, Key>,
    /// Off: every connection is a slice of its own.
    pub on: bool,
}

impl ClientTable {
    pub(crate) fn new(seed: u64) -> Self {
        Self { slots: HashMap::with_hasher(Key(seed | 1)), on: false }
    }
    pub(crate) fn get(&self, ip: [u8; 4]) -> Option<u32> {
        self.slots.get(&ip).copied()
    }
    /// Enters a client's slice; one that is there already stays (slices that were moved may meet others of their client).
    pub(crate) fn insert(&mut self, ip: [u8; 4], slot: u32) {
        if self.on {
            self.slots.entry(ip).or_insert(slot);
        }
    }
    pub(crate) fn remove(&mut self, ip: [u8; 4], slot: u32) {
        if self.get(ip) == Some(slot) {
            self.slots.remove(&ip);
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Key(u64);

impl BuildHasher for Key {
    type Hasher = Mix;
    fn build_hasher(&self) -> Mix {
        Mix(self.0)
    }
}

/// Folded multiplication: enough where the key is secret and an entry costs an attacker a handshake.
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.write_u64(u64::from(*b));
        }
    }
    fn write_u16(&mut self, n: u16) {
        self.write_u64(u64::from(n));
    }
    fn write_u64(&mut self, n: u64) {
        let wide = u128::from(self.0 ^ n).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
        self.0 = (wide >> 64) as u64 ^ wide as u64;
    }
}
