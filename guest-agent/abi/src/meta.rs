//! What the guest publishes about a slot at each `put_ref`, before the generation moves on.

/// Live ranges of a slot.
pub const LIVE_RANGES_MAX: usize = 8;

/// Connections that one slice may have at the same time.
pub const CONNECTIONS_MAX: usize = 4;

/// A range of a slot that is part of the slice's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct LiveRange {
    /// Offset in the slot, bytes.
    pub offset: u32,
    /// Length, bytes; 0 = unused entry.
    pub len: u32,
}

/// How far a connection is. Whose it is was told by [`crate::GuestMessage::Bind`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ConnectionNumbers {
    /// Next byte expected from the client: what came before is in the slice's state.
    pub rcv_nxt: u32,
    /// Next sequence number that the slice will send for the first time.
    pub snd_nxt: u32,
}

/// Published state of a slot; read by the VMM between two reads of an unchanged, quiescent slot word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct SlotMeta {
    /// Ranges whose bytes are the slice's state. Everything else of the slot is dead.
    pub live: [LiveRange; LIVE_RANGES_MAX],
    /// Incarnation of the slot: (slot, incarnation) is the slice id.
    pub incarnation: u64,
    /// Requests answered so far (information).
    pub requests: u64,
    /// The slice's connections, by their place. Those of places without [`connection_bit::present`] say nothing.
    pub numbers: [ConnectionNumbers; CONNECTIONS_MAX],
    /// Bits of [`meta_flag`].
    pub flags: u32,
    /// Bits of [`connection_bit`].
    pub connections: u32,
    /// Which use of its place each connection is, as [`crate::GuestMessage::Bind`] told.
    pub serials: [u16; CONNECTIONS_MAX],
}

/// Bits of [`SlotMeta::flags`].
pub mod meta_flag {
    /// The slice's connections are finished in both directions (or reset): this generation is its last.
    pub const CLOSED: u32 = 1;
}

/// Bits of [`SlotMeta::connections`].
pub mod connection_bit {
    /// There is a connection in this place.
    pub const fn present(place: usize) -> u32 {
        1 << place
    }
    /// It is finished in both directions (or reset), and its place waits for [`crate::HostMessage::ConnectionFree`].
    pub const fn ended(place: usize) -> u32 {
        1 << (8 + place)
    }
}

const _: () = assert!(size_of::<SlotMeta>() == 128);
