//! Entries of the two control rings. Fixed size, fixed meaning, nothing variable.

/// A ring entry as it lies in memory: the kind and seven words. Unknown kinds are counted and skipped by the reader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct RingEntry {
    /// Which message.
    pub kind: u64,
    /// Its fields.
    pub word: [u64; 7],
}

/// A client connection: the peer's address and port and our port, host byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct Flow {
    /// Client address.
    pub ip: [u8; 4],
    /// Client port.
    pub port: u16,
    /// Port of the service.
    pub service_port: u16,
}

impl Flow {
    /// As a word.
    pub const fn to_word(self) -> u64 {
        (u32::from_be_bytes(self.ip) as u64) << 32 | (self.port as u64) << 16 | self.service_port as u64
    }
    /// What [`Self::to_word`] has made.
    pub const fn from_word(w: u64) -> Self {
        Self { ip: ((w >> 32) as u32).to_be_bytes(), port: (w >> 16) as u16, service_port: w as u16 }
    }
}

/// Guest → host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestMessage {
    /// The guest is up and takes connections.
    Ready,
    /// A place in a slot was given to a flow whose SYN has just arrived: in a new incarnation of the slot, or in a slice that runs.
    /// Written before the flow's first frame.
    Bind {
        /// Slot.
        slot: u32,
        /// Its incarnation.
        incarnation: u64,
        /// The flow.
        flow: Flow,
        /// The connection's place, below [`crate::meta::CONNECTIONS_MAX`].
        place: u32,
        /// Which use of the place in this slice it is, from 0, modulo 2^16.
        serial: u16,
    },
    /// The slice's state changed and no frame says so: capture within `max_staleness`.
    Changed {
        /// Slot.
        slot: u32,
    },
    /// The slice's last generation is published: commit it as CLOSE even if no frame waits.
    Close {
        /// Slot.
        slot: u32,
        /// Incarnation.
        incarnation: u64,
    },
    /// Answer to [`HostMessage::Plug`].
    Plugged {
        /// Slot.
        slot: u32,
        /// Incarnation.
        incarnation: u64,
        /// 0, or a [`refusal`] code.
        status: u32,
    },
    /// Answer to [`HostMessage::Unplug`] and [`HostMessage::Discard`]: the guest holds nothing of the slice any more.
    Unplugged {
        /// Slot.
        slot: u32,
        /// Incarnation.
        incarnation: u64,
    },
    /// A panic or fault under a reference: the slot is poisoned, the guest goes on.
    Poisoned {
        /// Slot.
        slot: u32,
        /// Incarnation.
        incarnation: u64,
        /// Exception vector, or 256 for a panic.
        cause: u32,
    },
}

/// Why a guest refused to plug a slice.
pub mod refusal {
    /// The slot's header is of another image.
    pub const WRONG_IMAGE: u32 = 1;
    /// The header is not a slice's, or of another incarnation.
    pub const BAD_HEADER: u32 = 2;
    /// The flow or the slot is taken by a slice that already runs here.
    pub const BUSY: u32 = 3;
    /// Its process may not have another descriptor.
    pub const NO_DESCRIPTOR: u32 = 4;
}

/// Host → guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostMessage {
    /// The guest may allocate slots `first_slot .. first_slot + LEASE_SLOTS`; incarnations are `generation << 32 | n`.
    Lease {
        /// First slot.
        first_slot: u32,
        /// Generation of the lease.
        generation: u32,
    },
    /// The slice's bytes are in the slot: attach it and force its output.
    Plug {
        /// Slot.
        slot: u32,
        /// Incarnation.
        incarnation: u64,
    },
    /// Detach the slice once its references are gone; leave its bytes.
    Unplug {
        /// Slot.
        slot: u32,
        /// Incarnation.
        incarnation: u64,
    },
    /// Forget the slice in silence (no frame, no further message but `Unplugged`).
    Discard {
        /// Slot.
        slot: u32,
        /// Incarnation.
        incarnation: u64,
    },
    /// CLOSE of this slice is acknowledged: the slot may be used again.
    SlotFree {
        /// Slot.
        slot: u32,
        /// Incarnation that ended.
        incarnation: u64,
    },
    /// The host knows nothing of this connection any more: its end is acknowledged, or its binding was refused. Its place may be used
    /// again, the slice goes on.
    ConnectionFree {
        /// Slot.
        slot: u32,
        /// Incarnation.
        incarnation: u64,
        /// The connection.
        flow: Flow,
    },
    /// The guest's kernel has answered the SYN of this flow, and its answer waits in the valve until the agent gives the flow a slot
    /// ([`GuestMessage::Bind`]). Only for guests whose kernel has the TCP connections.
    Opening {
        /// The connection.
        flow: Flow,
        /// What both SYNs said.
        numbers: OpeningNumbers,
    },
}

/// What a connection's SYN and its answer agreed on, as both passed the network device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct OpeningNumbers {
    /// Initial sequence number of the service.
    pub iss: u32,
    /// That of the client.
    pub irs: u32,
    /// The service's clock for timestamps (RFC 7323) in its SYN; 0 without [`opening_flag::TIMESTAMPS`].
    pub clock: u32,
    /// Largest segment that the client takes, bytes.
    pub mss: u16,
    /// The client's window in its SYN, which is not scaled.
    pub window: u16,
    /// Scale of the client's windows; 0 without [`opening_flag::SCALE`].
    pub scale_of_client: u8,
    /// Scale of ours.
    pub scale_of_service: u8,
    /// Bits of [`opening_flag`].
    pub flags: u8,
    /// Zero.
    pub reserved: u8,
}

/// Bits of [`OpeningNumbers::flags`]: what both sides have said.
pub mod opening_flag {
    /// Selective acknowledgements (RFC 2018).
    pub const SACK: u8 = 1;
    /// Window scales (RFC 7323).
    pub const SCALE: u8 = 2;
    /// Timestamps (RFC 7323).
    pub const TIMESTAMPS: u8 = 4;
}

impl OpeningNumbers {
    const fn to_words(self) -> [u64; 3] {
        let sizes = self.mss as u64 | (self.window as u64) << 16;
        let options = (self.scale_of_client as u64) | (self.scale_of_service as u64) << 8 | (self.flags as u64) << 16;
        [(self.iss as u64) << 32 | self.irs as u64, self.clock as u64, sizes | options << 32]
    }
    const fn from_words(w: [u64; 3]) -> Self {
        let [numbers, clock, rest] = w;
        Self {
            iss: (numbers >> 32) as u32,
            irs: numbers as u32,
            clock: clock as u32,
            mss: rest as u16,
            window: (rest >> 16) as u16,
            scale_of_client: (rest >> 32) as u8,
            scale_of_service: (rest >> 40) as u8,
            flags: (rest >> 48) as u8,
            reserved: 0,
        }
    }
}

macro_rules! entry {
    ($kind:expr $(, $w:expr)*) => {{
        let mut e = RingEntry { kind: $kind, word: [0; 7] };
        let words = [$($w as u64),*];
        let mut i = 0;
        while i < words.len() {
            e.word[i] = words[i];
            i += 1;
        }
        e
    }};
}

impl From<GuestMessage> for RingEntry {
    fn from(m: GuestMessage) -> Self {
        match m {
            GuestMessage::Ready => entry!(1, 0u64),
            GuestMessage::Bind { slot, incarnation, flow, place, serial } => {
                entry!(2, slot, incarnation, flow.to_word(), place, serial)
            }
            GuestMessage::Changed { slot } => entry!(3, slot),
            GuestMessage::Close { slot, incarnation } => entry!(4, slot, incarnation),
            GuestMessage::Plugged { slot, incarnation, status } => entry!(5, slot, incarnation, status),
            GuestMessage::Unplugged { slot, incarnation } => entry!(6, slot, incarnation),
            GuestMessage::Poisoned { slot, incarnation, cause } => entry!(7, slot, incarnation, cause),
        }
    }
}

impl From<HostMessage> for RingEntry {
    fn from(m: HostMessage) -> Self {
        match m {
            HostMessage::Lease { first_slot, generation } => entry!(1, first_slot, generation),
            HostMessage::Plug { slot, incarnation } => entry!(2, slot, incarnation),
            HostMessage::Unplug { slot, incarnation } => entry!(3, slot, incarnation),
            HostMessage::Discard { slot, incarnation } => entry!(4, slot, incarnation),
            HostMessage::SlotFree { slot, incarnation } => entry!(5, slot, incarnation),
            HostMessage::ConnectionFree { slot, incarnation, flow } => entry!(6, slot, incarnation, flow.to_word()),
            HostMessage::Opening { flow, numbers } => {
                let [a, b, c] = numbers.to_words();
                entry!(7, flow.to_word(), a, b, c)
            }
        }
    }
}

/// The slot number of a word, if it can be one at all.
fn slot_of(w: u64) -> Option<u32> {
    u32::try_from(w).ok().filter(|s| *s < crate::layout::SLOTS_MAX)
}

impl RingEntry {
    /// Reads an entry as the host must: anything that is not a message of the guest is `None`.
    pub fn guest_message(&self) -> Option<GuestMessage> {
        let [a, b, c, d, e, ..] = self.word;
        Some(match self.kind {
            1 => GuestMessage::Ready,
            2 => GuestMessage::Bind {
                slot: slot_of(a)?,
                incarnation: b,
                flow: Flow::from_word(c),
                place: u32::try_from(d).ok().filter(|p| (*p as usize) < crate::meta::CONNECTIONS_MAX)?,
                serial: u16::try_from(e).ok()?,
            },
            3 => GuestMessage::Changed { slot: slot_of(a)? },
            4 => GuestMessage::Close { slot: slot_of(a)?, incarnation: b },
            5 => GuestMessage::Plugged { slot: slot_of(a)?, incarnation: b, status: u32::try_from(c).ok()? },
            6 => GuestMessage::Unplugged { slot: slot_of(a)?, incarnation: b },
            7 => GuestMessage::Poisoned { slot: slot_of(a)?, incarnation: b, cause: u32::try_from(c).ok()? },
            _ => return None,
        })
    }

    /// Reads an entry as the guest does.
    pub fn host_message(&self) -> Option<HostMessage> {
        let [a, b, c, d, ..] = self.word;
        if self.kind == 7 {
            let numbers = OpeningNumbers::from_words([b, c, d]);
            return Some(HostMessage::Opening { flow: Flow::from_word(a), numbers });
        }
        let slot = slot_of(a)?;
        Some(match self.kind {
            1 => HostMessage::Lease { first_slot: slot, generation: u32::try_from(b).ok()? },
            2 => HostMessage::Plug { slot, incarnation: b },
            3 => HostMessage::Unplug { slot, incarnation: b },
            4 => HostMessage::Discard { slot, incarnation: b },
            5 => HostMessage::SlotFree { slot, incarnation: b },
            6 => HostMessage::ConnectionFree { slot, incarnation: b, flow: Flow::from_word(c) },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_survives_the_ring() {
        let flow = Flow { ip: [10, 1, 2, 3], port: 40_000, service_port: 80 };
        let (slot, incarnation) = (77, 5 << 32 | 9);
        for m in [
            GuestMessage::Ready,
            GuestMessage::Bind { slot, incarnation, flow, place: 3, serial: u16::MAX },
            GuestMessage::Changed { slot },
            GuestMessage::Close { slot, incarnation },
            GuestMessage::Plugged { slot, incarnation, status: refusal::BUSY },
            GuestMessage::Unplugged { slot, incarnation },
            GuestMessage::Poisoned { slot, incarnation, cause: 14 },
        ] {
            assert_eq!(RingEntry::from(m).guest_message(), Some(m));
        }
        for m in [
            HostMessage::Lease { first_slot: 64, generation: 3 },
            HostMessage::Plug { slot, incarnation },
            HostMessage::Unplug { slot, incarnation },
            HostMessage::Discard { slot, incarnation },
            HostMessage::SlotFree { slot, incarnation },
            HostMessage::ConnectionFree { slot, incarnation, flow },
            HostMessage::Opening {
                flow,
                numbers: OpeningNumbers {
                    iss: u32::MAX,
                    irs: 7,
                    clock: 0x8000_0001,
                    mss: 1460,
                    window: 0xfff0,
                    scale_of_client: 14,
                    scale_of_service: 9,
                    flags: opening_flag::SACK | opening_flag::TIMESTAMPS,
                    reserved: 0,
                },
            },
        ] {
            assert_eq!(RingEntry::from(m).host_message(), Some(m));
        }
    }

    #[test]
    fn garbage_is_no_message() {
        for kind in [0, 8, u64::MAX] {
            assert_eq!(RingEntry { kind, word: [0; 7] }.guest_message(), None);
        }
        let mut e = RingEntry::from(GuestMessage::Changed { slot: 1 });
        e.word[0] = u64::from(crate::layout::SLOTS_MAX);
        assert_eq!(e.guest_message(), None);
        let flow = Flow::default();
        let mut e = RingEntry::from(GuestMessage::Bind { slot: 1, incarnation: 1, flow, place: 0, serial: 0 });
        e.word[3] = crate::meta::CONNECTIONS_MAX as u64;
        assert_eq!(e.guest_message(), None);
    }
}
