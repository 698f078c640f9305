//! Frames that wait for the socket.

use crate::error::LinkFault;
use escape_proto::{CodecError, FRAME_MAX, encode_into};
use serde::Serialize;

/// Bytes of the length prefix: u32, little endian.
pub(crate) const PREFIX: usize = 4;
/// Plaintext that TLS is given at once: what lies sealed in TLS buffers is bounded by it.
const CHUNK: usize = 256 << 10;
/// Sent bytes at the front of the buffer that are worth a move of the rest.
const COMPACT_AT: usize = 1 << 20;

/// Staged frames, bounded in bytes. Full: the new frame is refused ([`LinkFault::Congested`]), staged ones stay.
#[derive(Debug)]
pub(crate) struct FrameQueue {
    bytes: Vec<u8>,
    sent: usize,
    limit: usize,
}

impl FrameQueue {
    pub(crate) const fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), sent: 0, limit }
    }

    /// Bytes that wait.
    pub(crate) fn queued(&self) -> usize {
        self.bytes.len().saturating_sub(self.sent)
    }

    /// Stages one message. `sealed` bytes already lie in TLS buffers and count too.
    pub(crate) fn stage<T: Serialize>(&mut self, message: &T, sealed: usize) -> Result<usize, LinkFault> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; PREFIX]);
        if let Err(error) = encode_into(message, &mut self.bytes) {
            self.bytes.truncate(start);
            return Err(LinkFault::Unsendable(error));
        }
        let wanted = self.bytes.len() - start;
        if let Err(congested) = self.check_room(start - self.sent + sealed, wanted) {
            self.bytes.truncate(start);
            return Err(congested);
        }
        self.set_prefix(start);
        Ok(wanted)
    }

    /// Stages the parts as one frame.
    pub(crate) fn stage_parts(&mut self, parts: &[&[u8]], sealed: usize) -> Result<usize, LinkFault> {
        let len = parts.iter().map(|part| part.len()).sum::<usize>();
        if len > FRAME_MAX {
            return Err(LinkFault::Unsendable(CodecError::TooLong { len }));
        }
        self.check_room(self.queued() + sealed, len + PREFIX)?;
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; PREFIX]);
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.set_prefix(start);
        Ok(len + PREFIX)
    }

    /// The next bytes for TLS; empty if none wait.
    pub(crate) fn chunk(&self) -> &[u8] {
        let waiting = self.bytes.get(self.sent..).unwrap_or_default();
        waiting.get(..CHUNK).unwrap_or(waiting)
    }

    /// `n` bytes of [`Self::chunk`] were taken.
    pub(crate) fn advance(&mut self, n: usize) {
        self.sent = (self.sent + n).min(self.bytes.len());
        if self.sent == self.bytes.len() {
            self.bytes.clear();
            self.sent = 0;
        } else if self.sent >= COMPACT_AT {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
    }

    fn check_room(&self, queued: usize, wanted: usize) -> Result<(), LinkFault> {
        if queued + wanted > self.limit {
            return Err(LinkFault::Congested { queued, wanted, limit: self.limit });
        }
        Ok(())
    }

    fn set_prefix(&mut self, start: usize) {
        // At most FRAME_MAX, which fits (asserted beside the errors).
        let len = u32::try_from(self.bytes.len() - start - PREFIX).unwrap_or(u32::MAX);
        if let Some(prefix) = self.bytes.get_mut(start..start + PREFIX) {
            prefix.copy_from_slice(&len.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn over_the_bound_nothing_is_staged_and_nothing_is_lost() {
        let mut queue = FrameQueue::new(100);
        queue.stage_parts(&[&[1; 50], &[2; 10]], 0).unwrap();
        assert!(matches!(queue.stage_parts(&[&[3; 40]], 0), Err(LinkFault::Congested { queued: 64, wanted: 44, .. })));
        assert!(matches!(queue.stage(&vec![7u8; 60], 0), Err(LinkFault::Congested { queued: 64, .. })));
        assert!(queue.stage_parts(&[&[3; 20]], 20).is_err());
        assert_eq!(queue.queued(), 64);
        assert_eq!(queue.chunk()[..5], [60, 0, 0, 0, 1]);
        queue.advance(64);
        queue.stage(&vec![7u8; 60], 0).unwrap();
        assert_eq!(queue.chunk()[..6], [61, 0, 0, 0, 60, 7]);
    }

    #[test]
    fn a_frame_over_the_limit_is_never_staged() {
        let mut queue = FrameQueue::new(usize::MAX >> 1);
        let long = vec![0u8; FRAME_MAX + 1];
        assert!(matches!(queue.stage_parts(&[&long], 0), Err(LinkFault::Unsendable(_))));
        assert!(matches!(queue.stage(&long, 0), Err(LinkFault::Unsendable(_))));
        assert_eq!(queue.queued(), 0);
        queue.stage_parts(&[&long[..FRAME_MAX]], 0).unwrap();
    }

    #[test]
    fn chunks_cover_the_queue_in_order() {
        let mut queue = FrameQueue::new(16 << 20);
        let mut want = Vec::new();
        for i in 0..40u8 {
            let body = vec![i; 100_000];
            queue.stage_parts(&[&body], 0).unwrap();
            want.extend_from_slice(&100_000u32.to_le_bytes());
            want.extend_from_slice(&body);
        }
        let mut got = Vec::new();
        while !queue.chunk().is_empty() {
            let n = queue.chunk().len();
            assert!(n <= CHUNK);
            got.extend_from_slice(queue.chunk());
            queue.advance(n);
        }
        assert!(got == want);
    }
}
