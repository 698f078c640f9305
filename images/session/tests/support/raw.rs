//! A peer whose every segment is made by hand.

use super::segment::{ACK, FIN, SYN, Seen, Segment, before};
use super::world::World;
use escape_abi::message::Flow;

/// Its side of a connection. What the world releases to its flow waits until it looks ([`Self::take`]).
pub struct Raw {
    pub flow: Flow,
    /// Next sequence number to send.
    pub next: u32,
    /// Next number expected.
    pub expected: u32,
    pub window: u16,
    pub syn_ack: Seen,
}

impl Raw {
    /// A flow that only this peer has.
    pub fn flow(world: &mut World, number: u32, service_port: u16) -> Flow {
        let [_, a, b, c] = number.to_be_bytes();
        let flow = Flow { ip: [10, 200 + a, b, c], port: 1000 + (number % 50_000) as u16, service_port };
        world.raw.entry(flow).or_default();
        flow
    }

    /// The whole handshake, with options in the SYN.
    pub fn connect(world: &mut World, flow: Flow, iss: u32, options: &[u8]) -> Self {
        // Again if it was lost with its owner.
        let syn_ack = (0..10).find_map(|_| {
            world.raw_send(Segment::new(flow, iss, 0, SYN).options(options));
            world.raw_take(flow).pop()
        });
        let syn_ack = syn_ack.expect("a SYN-ACK");
        assert_eq!((syn_ack.flags, syn_ack.ack), (SYN | ACK, iss.wrapping_add(1)));
        let (next, expected) = (iss.wrapping_add(1), syn_ack.seq.wrapping_add(1));
        let peer = Self { flow, next, expected, window: 0x7fff, syn_ack };
        peer.ack(world);
        peer
    }

    /// A segment with the present acknowledgement and window, at an offset from the next number.
    pub fn at(&self, offset: u32, flags: u8, payload: &[u8]) -> Segment {
        let seq = self.next.wrapping_add(offset);
        Segment::new(self.flow, seq, self.expected, flags).payload(payload).window(self.window)
    }

    pub fn ack(&self, world: &mut World) {
        world.raw_send(self.at(0, ACK, &[]));
    }

    /// Sends bytes in one segment.
    pub fn send(&mut self, world: &mut World, payload: &[u8]) {
        let segment = self.at(0, ACK, payload);
        self.next = self.next.wrapping_add(payload.len() as u32);
        world.raw_send(segment);
    }

    pub fn close(&mut self, world: &mut World) {
        let segment = self.at(0, ACK | FIN, &[]);
        self.next = self.next.wrapping_add(1);
        world.raw_send(segment);
    }

    /// What came, in order of arrival; moves `expected` over what is in order and returns those bytes too.
    pub fn take(&mut self, world: &mut World) -> (Vec<Seen>, Vec<u8>) {
        let (seen, mut bytes) = (world.raw_take(self.flow), vec![]);
        for s in &seen {
            let behind = self.expected.wrapping_sub(s.seq) as usize;
            if !before(self.expected, s.seq) && before(self.expected, s.end()) {
                bytes.extend(s.payload.get(behind..).unwrap_or_default());
                self.expected = s.end();
            }
        }
        (seen, bytes)
    }
}
