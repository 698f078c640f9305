//! What a committed checkpoint covers, and the check that a frame is covered (invariant I1).

use super::connections::Connections;
use super::segment::Segment;
use super::sequence::covers;
use thiserror::Error;

/// The frontier of a committed checkpoint of one slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coverage {
    /// Incarnation of the slot.
    pub incarnation: u64,
    /// Generation of the slot that was captured.
    pub generation: u64,
    /// How far each connection of the slice was.
    pub connections: Connections,
}

/// A frame whose generation is committed, but whose numbers the committed state does not cover: the guest's word or
/// metadata lied, or the guest agent has a fault. The frame is not released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Breach {
    /// The frame carries bytes that the committed state does not know as sent.
    #[error("frame ends at sequence {seq_end:#x}, the committed state at {snd_nxt:#x}")]
    Sequence {
        /// Sequence number after the frame.
        seq_end: u32,
        /// The committed frontier.
        snd_nxt: u32,
    },
    /// The frame acknowledges bytes that the committed state does not hold.
    #[error("frame acknowledges {ack:#x}, the committed state has received up to {rcv_nxt:#x}")]
    Acknowledgement {
        /// Acknowledgement number of the frame.
        ack: u32,
        /// The committed frontier.
        rcv_nxt: u32,
    },
    /// The frame is of a connection that the committed state does not have.
    #[error("frame to client port {port}, of which the committed state knows no connection")]
    NoConnection {
        /// Client port of the frame's flow.
        port: u16,
    },
}

impl Coverage {
    /// Second, independent opinion beside the generation rule: do the frame's numbers lie behind the frontiers?
    ///
    /// A segment without sequence space has no sequence end to check. An RST is covered by its generation alone: it
    /// carries no byte, its receiver ignores its acknowledgement number, and its sequence number may be an echo of the
    /// client's (RFC 9293, section 3.10.7).
    pub fn check(&self, segment: &Segment) -> Result<(), Breach> {
        if segment.flags.rst() {
            return Ok(());
        }
        let no_connection = Breach::NoConnection { port: segment.flow.port };
        let committed = self.connections.of_flow(&segment.flow).ok_or(no_connection)?;
        if segment.seq_len() > 0 && !covers(committed.snd_nxt, segment.seq_end()) {
            return Err(Breach::Sequence { seq_end: segment.seq_end(), snd_nxt: committed.snd_nxt });
        }
        if segment.flags.ack() && !covers(committed.rcv_nxt, segment.ack) {
            return Err(Breach::Acknowledgement { ack: segment.ack, rcv_nxt: committed.rcv_nxt });
        }
        Ok(())
    }

    /// The same for frames of a kernel, which acknowledges what its program has not read. When the committed state says that the connection is
    /// over, nobody will read it, here or elsewhere: then its acknowledgements need no cover, and neither they nor the reset behind them wait
    /// for ever.
    pub fn check_kernels(&self, segment: &Segment) -> Result<(), Breach> {
        match self.check(segment) {
            Err(Breach::Acknowledgement { .. })
                if self.connections.of_flow(&segment.flow).is_some_and(|connection| connection.ended) =>
            {
                Ok(())
            }
            judged => judged,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::{Frame, Source, parse};
    use super::super::segment::TcpFlags;
    use super::super::test_frames::{FrameBuilder, flow};
    use super::*;

    fn segment(seq: u32, ack: u32, flags: u8, payload: usize) -> Segment {
        let bytes = FrameBuilder::default().seq(seq).ack(ack).flags(flags).payload(&vec![0; payload]).sent_by_guest();
        match parse(&bytes, Source::Guest) {
            Frame::Tcp(segment) => segment,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn checks_both_numbers_at_every_edge_even_across_the_wrap() {
        for snd_nxt in [1000u32, 5, 0, u32::MAX] {
            let ack = snd_nxt ^ 0x8000_0000;
            let connections = Connections::one(flow(40_000), ack, snd_nxt);
            let c = Coverage { incarnation: 1, generation: 1, connections };
            assert_eq!(c.check(&segment(snd_nxt.wrapping_sub(10), ack, TcpFlags::ACK, 10)), Ok(()));
            assert!(c.check(&segment(snd_nxt.wrapping_sub(10), ack, TcpFlags::ACK, 11)).is_err());
            assert!(c.check(&segment(snd_nxt.wrapping_sub(10), ack, TcpFlags::ACK | TcpFlags::FIN, 10)).is_err());
            assert!(c.check(&segment(snd_nxt, ack.wrapping_add(1), TcpFlags::ACK, 0)).is_err());
            assert_eq!(c.check(&segment(snd_nxt.wrapping_add(9), ack, TcpFlags::ACK, 0)), Ok(()));
            assert_eq!(c.check(&segment(snd_nxt.wrapping_add(9), ack.wrapping_add(9), TcpFlags::RST, 0)), Ok(()));
            let other = Connections::one(flow(40_001), ack, snd_nxt);
            let stranger = Coverage { connections: other, ..c }.check(&segment(snd_nxt, ack, TcpFlags::ACK, 0));
            assert_eq!(stranger, Err(Breach::NoConnection { port: 40_000 }));
            // Far behind is hostile, not old.
            assert!(c.check(&segment(snd_nxt.wrapping_sub(0x4000_1000), ack, TcpFlags::ACK, 1)).is_err());
        }
    }
}
