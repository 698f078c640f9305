//! Frames out of the decrypted stream.

use crate::error::LinkFault;
use crate::frame_queue::PREFIX;
use std::io::{self, Read};
use std::ops::Range;

/// Decrypted bytes not yet handed out. Memory follows the bytes that arrived, never the lengths that were claimed: the
/// caller reads on only while no frame is complete, so at most one frame and one read lie here.
#[derive(Debug, Default)]
pub(crate) struct FrameReader {
    bytes: Vec<u8>,
    taken: usize,
    filled: usize,
}

impl FrameReader {
    /// Takes exactly `n` decrypted bytes from `source`.
    pub(crate) fn fill(&mut self, source: &mut impl Read, n: usize) -> io::Result<()> {
        self.make_room(n);
        if let Some(space) = self.bytes.get_mut(self.filled..self.filled + n) {
            source.read_exact(space)?;
            self.filled += n;
        }
        Ok(())
    }

    /// Where the next complete frame lies; it is handed out by that. A prefix over `limit` is an error at once.
    pub(crate) fn next(&mut self, limit: usize) -> Result<Option<Range<usize>>, LinkFault> {
        let waiting = self.bytes.get(self.taken..self.filled).unwrap_or_default();
        let Some((prefix, rest)) = waiting.split_first_chunk::<PREFIX>() else { return Ok(None) };
        let len = usize::try_from(u32::from_le_bytes(*prefix)).unwrap_or(usize::MAX);
        if len > limit {
            return Err(LinkFault::Oversize { len, limit });
        }
        if rest.len() < len {
            return Ok(None);
        }
        let start = self.taken + PREFIX;
        self.taken = start + len;
        Ok(Some(start..start + len))
    }

    /// The bytes of a range that [`Self::next`] gave, valid until the next fill.
    pub(crate) fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.bytes.get(range).unwrap_or_default()
    }

    /// Bytes of an unfinished frame.
    pub(crate) fn partial(&self) -> usize {
        self.filled - self.taken
    }

    fn make_room(&mut self, n: usize) {
        if self.taken == self.filled {
            self.taken = 0;
            self.filled = 0;
        }
        if self.bytes.len() - self.filled >= n {
            return;
        }
        if self.taken > 0 {
            self.bytes.copy_within(self.taken..self.filled, 0);
            self.filled -= self.taken;
            self.taken = 0;
        }
        if self.bytes.len() - self.filled < n {
            // Doubling keeps the cost of a long frame linear; zeroed once, then used again and again.
            let len = (self.filled + n).max(self.bytes.len().saturating_mul(2)).max(4096);
            self.bytes.resize(len, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn frames(stream: &[u8], step: usize, limit: usize) -> Result<Vec<Vec<u8>>, LinkFault> {
        let mut reader = FrameReader::default();
        let mut out = Vec::new();
        for piece in stream.chunks(step) {
            reader.fill(&mut &*piece, piece.len()).unwrap();
            while let Some(range) = reader.next(limit)? {
                out.push(reader.bytes(range).to_vec());
            }
        }
        Ok(out)
    }

    #[test]
    fn frames_come_out_whole_however_the_stream_is_cut() {
        let mut stream = Vec::new();
        let mut want = Vec::new();
        for i in 0..60u32 {
            let body = vec![u8::try_from(i).unwrap(); usize::try_from(i * i).unwrap()];
            stream.extend_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
            stream.extend_from_slice(&body);
            want.push(body);
        }
        for step in [1, 2, 3, 5, 7, 64, 1000, 4096, stream.len()] {
            assert_eq!(frames(&stream, step, 1 << 20).unwrap(), want, "step {step}");
        }
    }

    #[test]
    fn a_claimed_length_is_refused_before_anything_is_allocated() {
        let mut reader = FrameReader::default();
        reader.fill(&mut &[0xff_u8; 4][..], 4).unwrap();
        assert!(matches!(reader.next(1 << 20), Err(LinkFault::Oversize { .. })));
        assert!(reader.bytes.len() <= 4096);
        assert!(frames(&[11, 0, 0, 0], 4, 10).is_err());
        assert_eq!(frames(&[10, 0, 0, 0], 4, 10).unwrap().len(), 0);
    }
}
