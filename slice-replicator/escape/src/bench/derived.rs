//! What the VMM does with each segment that a Linux guest's kernel sends: whose it is and what it promises its client is derived from the frame
//! alone, it is held, and it leaves when a committed state covers its end *and* its acknowledgement (`Rule::Numbers`).
//!
//! Without device and guest: a frame goes into the valve and out of it.

use super::error::BenchError;
use escape_abi::message::Flow;
use escape_abi::{SlotMeta, SlotWord};
use escape_vmm::commit::connections::{Connection, Connections};
use escape_vmm::commit::{
    BreachPolicy, Coverage, HoldLimits, Mode, ProtectedPorts, Rule, SliceId, Valve, ValveConfig, Verdict,
};
use escape_vmm::memory::slot_memory::SlotMemory;
use std::hint::black_box;
use std::time::Instant;

/// Bytes of a segment's payload.
const PAYLOAD: u32 = 1460;
/// Each connection sends so many segments.
const SEGMENTS_EACH: u32 = 20;
const SERVICE_IP: [u8; 4] = [10, 0, 0, 1];
const SERVICE_PORT: u16 = 80;
const FIRST_CLIENT_PORT: u16 = 1024;
/// A frame's virtio-net header and both Ethernet addresses.
const BEFORE_ETHERTYPE: usize = 12 + 12;

/// Nanoseconds of each segment, of so many connections in turn.
///
/// # Errors
/// The valve did not hold a segment, or did not let it go when it was covered.
pub(super) fn nanos_of_segments(connections: usize) -> Result<Vec<u64>, BenchError> {
    let n_slots = u32::try_from(connections).unwrap_or(u32::MAX).min(u32::from(u16::MAX - FIRST_CLIENT_PORT));
    let failed = |detail: String| BenchError::Answer { what: "a segment in the valve".into(), detail };
    let protected_ports = ProtectedPorts::new(&[SERVICE_PORT]).ok_or_else(|| failed("ports".into()))?;
    let mut valve = Valve::new(ValveConfig {
        n_slots,
        service_ip: SERVICE_IP,
        protected_ports,
        unprotected_output: false,
        mode: Mode::Protect,
        limits: HoldLimits::default(),
        rule: Rule::Numbers,
        on_breach: BreachPolicy::Quarantine,
    });
    let memory = WordsOnly(n_slots);
    for slot in 0..n_slots {
        valve.saw_syn(flow_of(slot), 0, 0);
        valve.bind(slice(slot), flow_of(slot), 0).map_err(|error| failed(error.to_string()))?;
    }
    let mut nanos = Vec::with_capacity(n_slots as usize * SEGMENTS_EACH as usize);
    for n in 0..SEGMENTS_EACH {
        for slot in 0..n_slots {
            let frame = segment(flow_of(slot), n * PAYLOAD);
            let connection =
                Connection { flow: flow_of(slot), serial: 0, rcv_nxt: 1, snd_nxt: (n + 1) * PAYLOAD, ended: false };
            let mut connections = Connections::default();
            connections.set(0, connection);
            let covered = Coverage { incarnation: 1, generation: u64::from(n) + 1, connections };
            let begun = Instant::now();
            let verdict = valve.submit(&frame, &memory, 0);
            let released = valve.release(slot, &covered, &mut |frame| {
                black_box(frame);
            });
            nanos.push(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
            if !matches!(verdict, Verdict::Held { .. }) || released.frames != 1 {
                return Err(failed(format!("{verdict:?}, {} let go", released.frames)));
            }
        }
    }
    Ok(nanos)
}

const fn slice(slot: u32) -> SliceId {
    SliceId { slot, incarnation: 1 }
}

fn flow_of(slot: u32) -> Flow {
    let port = FIRST_CLIENT_PORT.saturating_add(u16::try_from(slot).unwrap_or(u16::MAX));
    Flow { ip: [10, 0, 0, 9], port, service_port: SERVICE_PORT }
}

/// As a guest hands it over; the checksums are another's work.
fn segment(flow: Flow, sequence: u32) -> Vec<u8> {
    let length = u16::try_from(PAYLOAD).unwrap_or(u16::MAX).saturating_add(40);
    let mut frame = vec![0; BEFORE_ETHERTYPE];
    frame.extend([0x08, 0x00, 0x45, 0]);
    frame.extend(length.to_be_bytes());
    frame.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
    frame.extend(SERVICE_IP);
    frame.extend(flow.ip);
    frame.extend(flow.service_port.to_be_bytes());
    frame.extend(flow.port.to_be_bytes());
    frame.extend(sequence.to_be_bytes());
    frame.extend(1u32.to_be_bytes());
    frame.extend([5 << 4, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
    frame.resize(frame.len() + PAYLOAD as usize, b'x');
    frame
}

/// Slots of which nothing but the word is looked at. It stands still: a segment is held because its numbers are not committed.
struct WordsOnly(u32);

impl SlotMemory for WordsOnly {
    fn n_slots(&self) -> u32 {
        self.0
    }
    fn word(&self, slot: u32) -> Option<SlotWord> {
        (slot < self.0).then(|| SlotWord::new(1, 0))
    }
    fn set_hold(&self, _slot: u32, _held: bool) {}
    fn meta(&self, _slot: u32) -> Option<SlotMeta> {
        None
    }
    fn read(&self, _slot: u32, _offset: usize, _into: &mut [u8]) -> bool {
        false
    }
    fn write(&self, _slot: u32, _offset: usize, _from: &[u8]) -> bool {
        false
    }
    fn prefault(&self, _slot: u32, _offset: usize, _len: usize) {}
    fn set_word(&self, _slot: u32, _word: SlotWord) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_segment_is_held_and_let_go() {
        let nanos = nanos_of_segments(50).map_err(|error| error.to_string());
        assert_eq!(nanos.map(|nanos| nanos.len()), Ok(50 * SEGMENTS_EACH as usize));
    }
}
