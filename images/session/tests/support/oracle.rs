//! What must hold of every frame that leaves, whoever sends it: judged when the host releases it.

use super::segment::{FIN, OPTION_MSS, OPTION_SACK_PERMITTED, OPTION_SCALE, OPTION_TIMESTAMP, RST, SYN, Seen, before};
use escape_abi::message::Flow;
use std::collections::HashMap;

/// Where a slice is in the state that its standby has acknowledged.
#[derive(Clone, Copy, Debug)]
pub struct Committed {
    pub incarnation: u64,
    pub rcv_nxt: u32,
    pub snd_nxt: u32,
}

/// A connection as the wire has seen it, over all of its owners.
struct Connection {
    iss: u32,
    /// Options of the SYN-ACK but its timestamp.
    options: Vec<(u8, Vec<u8>)>,
    /// Bytes by offset in the server's stream; `None` = not sent yet.
    stream: Vec<Option<u8>>,
    fin: Option<u32>,
    tsval: Option<u32>,
    ack: u32,
    /// Furthest that the client has acknowledged.
    acked: Option<u32>,
    mss: usize,
}

/// The judge.
#[derive(Default)]
pub struct Oracle {
    connections: HashMap<(Flow, u64), Connection>,
    /// The connection that a flow is now.
    current: HashMap<Flow, u64>,
    pub frames: u64,
    /// Bytes that were compared with what an earlier frame said at their place.
    pub compared: u64,
}

impl Oracle {
    /// A client sent this.
    pub fn on_client(&mut self, flow: Flow, s: &Seen) {
        let Some(c) = self.current.get(&flow).and_then(|i| self.connections.get_mut(&(flow, *i))) else { return };
        if s.flags & SYN == 0 && c.acked.is_none_or(|a| before(a, s.ack)) {
            c.acked = Some(s.ack);
        }
    }

    /// The host releases this; panics if it must not.
    pub fn on_release(&mut self, flow: Flow, frame: &[u8], committed: Committed, client_mss: usize) {
        let s = Seen::parse(frame);
        let what = || format!("{flow:?} {committed:?}: {s:?}");
        self.frames += 1;
        assert!(frame.len() <= 1514, "longer than the MTU: {}", what());
        assert!(s.flags & RST == 0, "a reset: {}", what());
        assert!(!before(committed.snd_nxt, s.end()), "sequence number beyond the commit: {}", what());
        assert!(!before(committed.rcv_nxt, s.ack), "acknowledgement beyond the commit: {}", what());
        let key = (flow, committed.incarnation);
        if s.flags & SYN != 0 && !self.connections.contains_key(&key) {
            self.current.insert(flow, committed.incarnation);
            self.connections.insert(key, Connection::new(&s, client_mss));
        }
        let c = self.connections.get_mut(&key).unwrap_or_else(|| panic!("before the SYN-ACK: {}", what()));
        if s.flags & SYN != 0 {
            assert_eq!((s.seq, syn_options(&s)), (c.iss, c.options.clone()), "another SYN-ACK: {}", what());
        }
        assert!(!before(s.ack, c.ack), "acknowledgement goes back from {}: {}", c.ack, what());
        c.ack = s.ack;
        assert_eq!(s.tsval().is_some(), c.tsval.is_some(), "timestamps come or go: {}", what());
        if let (Some(last), Some(now)) = (c.tsval, s.tsval()) {
            assert!(!before(now, last), "the timestamp goes back from {last}: {}", what());
            c.tsval = Some(now);
        }
        let room = c.mss - (usize::from(frame[46] >> 4) * 4 - 20);
        assert!(s.payload.len() <= room.max(1), "{} bytes in a segment of {room}: {}", s.payload.len(), what());
        self.compared += c.bytes(&s, &what);
    }

    /// The furthest byte of the server's stream that left, for `flow`'s connection now.
    pub fn sent(&self, flow: Flow) -> usize {
        self.current.get(&flow).map_or(0, |i| self.connections[&(flow, *i)].stream.len())
    }
}

/// What the SYN-ACK promises for good.
fn syn_options(s: &Seen) -> Vec<(u8, Vec<u8>)> {
    let kept = [OPTION_MSS, OPTION_SCALE, OPTION_SACK_PERMITTED];
    assert!(s.options.iter().all(|o| kept.contains(&o.0) || o.0 == OPTION_TIMESTAMP), "{s:?}");
    s.options.iter().filter(|o| kept.contains(&o.0)).cloned().collect()
}

impl Connection {
    fn new(syn_ack: &Seen, mss: usize) -> Self {
        let (stream, fin, acked) = (vec![], None, None);
        let (iss, ack, tsval) = (syn_ack.seq, syn_ack.ack, syn_ack.tsval());
        Self { iss, options: syn_options(syn_ack), stream, fin, tsval, ack, acked, mss }
    }

    /// Equal sequence numbers carry equal bytes, and the FIN has one place. Returns how many bytes were compared.
    fn bytes(&mut self, s: &Seen, what: &dyn Fn() -> String) -> u64 {
        // A keep-alive's byte is no data: it must be one that the client has (RFC 9293, 3.8.4).
        let known = self.acked.is_some_and(|a| !before(a, s.end()));
        let probe = known && s.payload.len() == 1 && s.flags & (SYN | FIN) == 0;
        let (first, mut compared) = (self.iss.wrapping_add(1), 0);
        if !probe && !s.payload.is_empty() {
            let at = s.seq.wrapping_sub(first) as usize;
            assert!(at < 1 << 30, "before the first byte: {}", what());
            self.stream.resize(self.stream.len().max(at + s.payload.len()), None);
            for (place, byte) in self.stream[at..].iter_mut().zip(&s.payload) {
                assert!(place.is_none_or(|b| b == *byte), "other bytes than before: {}", what());
                compared += u64::from(place.is_some());
                *place = Some(*byte);
            }
        }
        if s.flags & FIN != 0 {
            let at = s.end().wrapping_sub(1);
            assert_eq!(*self.fin.get_or_insert(at), at, "the FIN moves: {}", what());
        }
        let end = s.seq.wrapping_add(s.payload.len() as u32);
        let behind = !probe && !s.payload.is_empty() && self.fin.is_some_and(|fin| before(fin, end));
        assert!(!behind, "bytes behind the FIN: {}", what());
        compared
    }
}
