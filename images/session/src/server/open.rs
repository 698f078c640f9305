//! New connections.

use crate::frame::Segment;
use crate::host::Host;
use crate::server::Server;
use crate::session::{SessionKind, SessionState};
use crate::slot::{SESSION_LAYER, SlotHeader, SlotState, TCP_LAYER};
use crate::tcp::{TcpEvent, TcpState};
use core::mem::MaybeUninit;
use core::sync::atomic::Ordering;
use escape_abi::GuestMessage;
use escape_capsule::{CapsuleHandle, CapsuleId, CapsuleList, LocalAgent, SliceError, SliceKey, SliceRecord};

/// Slots in SYN-RECEIVED at once: what a flood of SYNs can take for 5 s.
pub(crate) const EMBRYONIC_SLOTS_MAX: usize = 256;

impl<H: Host> Server<H> {
    /// A SYN for a connection that is not known. Whatever is missing, the answer is silence: the client tries again.
    pub(super) fn open(&mut self, syn: &Segment<'_>, frame: &[u8]) {
        let kind = match syn.flow.service_port {
            p if p == self.params.http_port && p != 0 => SessionKind::Http,
            p if p == self.params.stream_port && p != 0 => SessionKind::Stream,
            _ => return self.counters.closed_port += 1,
        };
        if !self.tcp.wire.rx_csum_ok() && !syn.checksums_ok() {
            return self.counters.bad_checksum += 1;
        }
        if self.embryonic >= EMBRYONIC_SLOTS_MAX {
            return self.counters.syn_limited += 1;
        }
        let Some((slot, incarnation)) = self.pool.take() else { return self.counters.syn_no_room += 1 };
        let key = SliceKey { slot, incarnation };
        let handle = CapsuleHandle(u64::from(slot));
        let bind = GuestMessage::Bind { slot, incarnation, flow: syn.flow };
        // A slot that the host is still looking at, or a host that cannot be told of the flow before its first frame.
        if self.tcp.get_ref(handle).is_err() {
            self.pool.untake(slot);
            return self.counters.syn_no_room += 1;
        }
        self.referenced.store(slot, Ordering::Release);
        let made = self.make(key, kind, syn);
        let told = made && self.tcp.wire.try_tell(bind);
        if !told {
            self.forget(slot);
        }
        self.tcp.put_ref(handle);
        self.referenced.store(super::NO_SLOT, Ordering::Release);
        if !told {
            self.pool.untake(slot);
            return self.counters.syn_no_room += 1;
        }
        self.counters.opened += 1;
        self.embryonic += 1;
        if let Some(note) = self.notes.get_mut(slot as usize) {
            note.embryonic = true;
        }
        if self.run(slot, TcpEvent::Segment(syn)).is_err() {
            self.defer_frame(slot, frame);
        }
    }

    /// Writes the slot's first state and declares its capsules.
    fn make(&mut self, key: SliceKey, kind: SessionKind, syn: &Segment<'_>) -> bool {
        let Some(place) = self.memory.state(key.slot) else { return false };
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let ts_base = (self.seed >> 32) as u32;
        let header = SlotHeader::new(key, self.params.image_id, syn.flow, syn.peer_mac, ts_base);
        let clock = header.clock;
        let Ok(record) = declare(key) else { return false };
        // SAFETY: a free slot of our own lease, referenced: mapped, and nobody else's. Its rings are used by this socket alone.
        unsafe {
            let tcp = TcpState::new(place.cast(), syn, clock);
            let session = SessionState::new(kind, clock);
            place.write(SlotState { header, tcp, session, record, scratch: MaybeUninit::uninit() });
        }
        self.session.attach(key);
        self.tcp.attach(key, syn.flow, clock)
    }
}

/// The slice's two capsules: the session depends on its connection.
fn declare(key: SliceKey) -> Result<SliceRecord, SliceError> {
    let (tcp, session) = (CapsuleId::new(key, TCP_LAYER), CapsuleId::new(key, SESSION_LAYER));
    let (tcp_regions, session_regions) = SlotState::regions();
    let mut record = SliceRecord::new(key);
    LocalAgent::register_capsule(&mut record, tcp, &tcp_regions)?;
    LocalAgent::register_capsule(&mut record, session, &session_regions)?;
    LocalAgent::set_dep(&mut record, session, tcp)?;
    LocalAgent::create_slice(&mut record, key, session)?;
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_capsules_of_a_slice_can_be_declared() {
        let key = SliceKey { slot: 3, incarnation: 5 };
        let record = declare(key);
        assert_eq!(record.and_then(|r| r.verify(key)), Ok(()));
    }
}
