//! What lies in a slot of a Linux process, and where.

use crate::{ProcessError, TcpState, tcp_flag};
use escape_abi::meta::{CONNECTIONS_MAX, SlotMeta, connection_bit, meta_flag};
use escape_abi::{ConnectionNumbers, LiveRange};
use escape_capsule::{CapsuleId, LayerId, LiveSet, LocalAgent, Region, SliceError, SliceKey, SliceRecord};
use layout::{HEAP_AT, HEAP_SIZE, RX_AT, RX_SIZE, STATE_AT, STATE_SIZE, TX_AT, TX_SIZE};

/// Offsets in a slot.
pub mod layout {
    use escape_abi::layout::SLOT_SIZE;
    /// Input that the program has not consumed. Before it: what [`super::SlotState`] has.
    pub const RX_AT: usize = 4 << 10;
    /// Its bytes.
    pub const RX_SIZE: usize = 32 << 10;
    /// Output that the client has not acknowledged, a ring.
    pub const TX_AT: usize = RX_AT + RX_SIZE;
    /// Its bytes.
    pub const TX_SIZE: usize = 64 << 10;
    /// The program's state of fixed size.
    pub const STATE_AT: usize = TX_AT + TX_SIZE;
    /// Its bytes, at most.
    pub const STATE_SIZE: usize = 4 << 10;
    /// The slice's heap: the rest of the slot.
    pub const HEAP_AT: usize = STATE_AT + STATE_SIZE;
    /// Its bytes.
    pub const HEAP_SIZE: usize = SLOT_SIZE - HEAP_AT;
}

/// "ESCLINUX" little-endian.
const MAGIC: u64 = u64::from_le_bytes(*b"ESCLINUX");
/// The TCP capsule's layer.
pub const TCP_LAYER: LayerId = LayerId(1);
/// The layer of the program's own capsule.
pub const SESSION_LAYER: LayerId = LayerId(2);

/// The slice's state outside of buffers and heap. Numbers only: any bytes are a value of it.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct SlotState {
    magic: u64,
    key: SliceKey,
    /// The TCP capsule.
    pub tcp: TcpState,
    /// Requests answered (information).
    pub requests: u64,
    /// Bytes of the program's state that are in use.
    pub state_len: u32,
    /// Bytes of the heap that are in use.
    pub heap_len: u32,
    record: SliceRecord,
}

const _: () = assert!(size_of::<SlotState>() <= RX_AT, "the state must fit before the input buffer");

impl SlotState {
    /// A new slice.
    ///
    /// # Errors
    /// None that a correct layout can have.
    pub fn new(key: SliceKey, tcp: TcpState) -> Result<Self, SliceError> {
        let mut record = SliceRecord::new(key);
        let (lower, upper) = (CapsuleId::new(key, TCP_LAYER), CapsuleId::new(key, SESSION_LAYER));
        LocalAgent::register_capsule(
            &mut record,
            lower,
            &[region(0, RX_AT), region(RX_AT, RX_SIZE), region(TX_AT, TX_SIZE)],
        )?;
        LocalAgent::register_capsule(&mut record, upper, &[region(STATE_AT, STATE_SIZE), region(HEAP_AT, HEAP_SIZE)])?;
        LocalAgent::set_dep(&mut record, upper, lower)?;
        LocalAgent::create_slice(&mut record, key, upper)?;
        Ok(Self { magic: MAGIC, key, tcp, requests: 0, state_len: 0, heap_len: 0, record })
    }

    /// The slice.
    pub const fn key(&self) -> SliceKey {
        self.key
    }

    /// Whether this is a sound slice of this name: it may have come from another machine.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self, key: SliceKey) -> Result<(), ProcessError> {
        let wrong = |why| Err(ProcessError::BadSlot { slot: key.slot, why });
        if self.magic != MAGIC {
            return wrong("no such guest made it");
        }
        if self.key != key || self.record.verify(key).is_err() {
            return wrong("its record is another slice's");
        }
        if !self.tcp.is_sound(RX_SIZE as u32) {
            return wrong("its TCP capsule contradicts itself");
        }
        if self.state_len as usize > STATE_SIZE || self.heap_len as usize > HEAP_SIZE {
            return wrong("its state is larger than its place");
        }
        Ok(())
    }

    /// What is published at `put_ref`.
    pub fn meta(&self) -> SlotMeta {
        let live = self.live();
        // No capsule may keep state where it declared none.
        debug_assert!(live.iter().all(|range| range.len == 0 || self.record.declares(*range)), "{live:?}");
        let mut numbers = [ConnectionNumbers::default(); CONNECTIONS_MAX];
        let [first, ..] = &mut numbers;
        *first = self.tcp.published();
        let over = self.tcp.is(tcp_flag::OVER);
        SlotMeta {
            live,
            incarnation: self.key.incarnation,
            requests: self.requests,
            numbers,
            flags: if over { meta_flag::CLOSED } else { 0 },
            connections: connection_bit::present(0) | if over { connection_bit::ended(0) } else { 0 },
            serials: [0; CONNECTIONS_MAX],
        }
    }

    /// What of the slot is the slice's state now.
    fn live(&self) -> [LiveRange; escape_abi::meta::LIVE_RANGES_MAX] {
        let mut live = LiveSet::new();
        live.add(0, size_of::<Self>() as u32);
        if !self.tcp.is(tcp_flag::OVER) {
            live.add(RX_AT as u32 + self.tcp.input_start, self.tcp.input_end.saturating_sub(self.tcp.input_start));
            let start = (self.tcp.acknowledged % TX_SIZE as u64) as u32;
            live.add_ring(TX_AT as u32, TX_SIZE as u32, start, self.tcp.unacknowledged() as u32);
            live.add(STATE_AT as u32, self.state_len);
            live.add(HEAP_AT as u32, self.heap_len);
        }
        live.ranges()
    }
}

const fn region(offset: usize, len: usize) -> Region {
    Region { offset: offset as u32, len: len as u32 }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use escape_abi::OpeningNumbers;
    use escape_abi::message::Flow;

    const KEY: SliceKey = SliceKey { slot: 3, incarnation: 1 << 32 | 5 };

    fn slice() -> SlotState {
        let numbers = OpeningNumbers { iss: 99, irs: 199, mss: 1460, ..OpeningNumbers::default() };
        SlotState::new(KEY, TcpState::opened(Flow::default(), [10, 0, 0, 1], numbers, 0)).unwrap()
    }

    #[test]
    fn what_is_alive_follows_the_buffers() {
        let mut s = slice();
        s.check(KEY).unwrap();
        assert_eq!(s.meta().live[1].len, 0);
        (s.tcp.input_start, s.tcp.input_end) = (10, 30);
        (s.tcp.acknowledged, s.tcp.written) = (TX_SIZE as u64 - 5, TX_SIZE as u64 + 7);
        (s.state_len, s.heap_len) = (24, 4096);
        let meta = s.meta();
        let range = |offset: usize, len| LiveRange { offset: offset as u32, len };
        let wanted = [
            range(RX_AT + 10, 20),
            range(TX_AT + TX_SIZE - 5, 5),
            range(TX_AT, 7),
            range(STATE_AT, 24),
            range(HEAP_AT, 4096),
        ];
        assert_eq!(meta.live[1..6], wanted);
        assert_eq!(meta.numbers[0], ConnectionNumbers { rcv_nxt: 200, snd_nxt: 100 + TX_SIZE as u32 + 7 });
        assert_eq!((meta.connections, meta.flags, meta.incarnation), (1, 0, KEY.incarnation));
        s.tcp.flags = tcp_flag::OVER;
        assert_eq!((s.meta().flags, s.meta().connections, s.meta().live[1].len), (meta_flag::CLOSED, 0x101, 0));
    }

    /// TCP-FAILOVER, T33: what a standby keeps and a new one is sent of a connection that says nothing, the program's state apart.
    #[test]
    fn t33_an_idle_connection_is_less_than_1_kib() {
        let live: u32 = slice().meta().live.iter().map(|range| range.len).sum();
        assert!(live < 1024, "{live}");
    }

    #[test]
    fn slices_of_others_and_damaged_ones_are_refused() {
        let s = slice();
        assert!(s.check(SliceKey { slot: 4, ..KEY }).is_err());
        for damaged in [
            SlotState { magic: 0, ..s },
            SlotState { state_len: STATE_SIZE as u32 + 1, ..s },
            SlotState { heap_len: u32::MAX, ..s },
            SlotState { tcp: TcpState { input_end: u32::MAX, ..s.tcp }, ..s },
            SlotState { record: SliceRecord::new(KEY), ..s },
        ] {
            assert!(damaged.check(KEY).is_err());
        }
    }
}
