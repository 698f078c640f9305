//! Request bodies: `Content-Length` and chunked, piece by piece, with all state in the slot.

use crate::http::head::{BODY_MAX, Framing};

/// Bytes of chunk extensions and trailer fields of one request, all together.
const EXTRAS_MAX: u32 = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
enum Step {
    /// `left` bytes of a body with a length.
    Plain,
    /// Hexadecimal digits of a chunk's size.
    Size,
    /// Behind the digits, to the end of the line.
    Extension,
    /// LF of the size line.
    SizeEnd,
    /// `left` bytes of a chunk.
    Chunk,
    /// CR, then LF, behind a chunk.
    ChunkCr,
    ChunkLf,
    /// Start of a trailer line, or of the empty line that ends the body.
    Trailer,
    TrailerLine,
    LastLf,
    End,
}

/// Where in a body the reader is.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct BodyReader {
    left: u64,
    step: Step,
    /// Digits of the chunk size so far.
    digits: u32,
    extras: u32,
}

/// What came of reading.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// Bytes of the body (none: more input is wanted).
    Data(&'a [u8]),
    /// The body is complete.
    End,
    /// Not a chunked body: the connection ends.
    Bad,
}

impl BodyReader {
    pub(crate) const fn new(framing: Framing) -> Self {
        let (step, left) = match framing {
            Framing::Absent => (Step::Plain, 0),
            Framing::Length(n) => (Step::Plain, n),
            Framing::Chunked => (Step::Size, 0),
        };
        Self { left, step, digits: 0, extras: 0 }
    }

    /// Reads from `input`; returns the bytes taken and what they are. All input is taken unless the body ends or data begins.
    pub(crate) fn read<'a>(&mut self, input: &'a [u8]) -> (usize, Piece<'a>) {
        let mut taken = 0;
        loop {
            if let Step::Plain | Step::Chunk = self.step {
                if self.left > 0 {
                    let rest = &input[taken..];
                    let n = rest.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
                    self.left -= n as u64;
                    return (taken + n, Piece::Data(&rest[..n]));
                }
                self.step = if self.step == Step::Plain { Step::End } else { Step::ChunkCr };
            }
            if self.step == Step::End {
                return (taken, Piece::End);
            }
            let Some(byte) = input.get(taken) else { return (taken, Piece::Data(&[])) };
            taken += 1;
            if self.byte(*byte).is_none() {
                return (taken, Piece::Bad);
            }
        }
    }

    /// One byte of chunked framing.
    fn byte(&mut self, byte: u8) -> Option<()> {
        self.step = match (self.step, byte) {
            (Step::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16)?;
                self.left = self.left * 16 + u64::from(digit);
                self.digits += 1;
                // The digits are bounded by the size that they may say; leading zeros by their number.
                (self.left <= BODY_MAX && self.digits <= 16).then_some(Step::Size)?
            }
            (Step::Size, b'\r') if self.digits > 0 => Step::SizeEnd,
            (Step::Size, b';' | b' ' | b'\t') if self.digits > 0 => self.extra(Step::Extension)?,
            (Step::Extension, b'\r') => Step::SizeEnd,
            (Step::Extension, b'\n') => return None,
            (Step::Extension, _) => self.extra(Step::Extension)?,
            (Step::SizeEnd, b'\n') => {
                self.digits = 0;
                if self.left > 0 { Step::Chunk } else { Step::Trailer }
            }
            (Step::ChunkCr, b'\r') => Step::ChunkLf,
            (Step::ChunkLf, b'\n') => Step::Size,
            (Step::Trailer, b'\r') => Step::LastLf,
            (Step::Trailer | Step::TrailerLine, b'\n') => self.extra(Step::Trailer)?,
            (Step::Trailer | Step::TrailerLine, _) => self.extra(Step::TrailerLine)?,
            (Step::LastLf, b'\n') => Step::End,
            _ => return None,
        };
        Some(())
    }

    fn extra(&mut self, next: Step) -> Option<Step> {
        self.extras += 1;
        (self.extras <= EXTRAS_MAX).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    /// Feeds `input` in pieces of `step` bytes; body, whether it ended, and bytes taken.
    fn feed(framing: Framing, input: &[u8], step: usize) -> (Vec<u8>, Option<bool>, usize) {
        let (mut reader, mut body, mut at) = (BodyReader::new(framing), Vec::new(), 0);
        loop {
            let window = &input[at..input.len().min(at + step)];
            let (n, piece) = reader.read(window);
            at += n;
            match piece {
                Piece::Data(d) => body.extend_from_slice(d),
                Piece::End => return (body, Some(true), at),
                Piece::Bad => return (body, Some(false), at),
            }
            if at == input.len() && reader.step != Step::End && !(reader.step == Step::Plain && reader.left == 0) {
                return (body, None, at);
            }
        }
    }

    #[test]
    fn however_it_is_cut() {
        let chunked = b"5\r\nhello\r\nA;x=\"y\"\r\n0123456789\r\n0\r\nT: v\r\n\r\nNEXT";
        for step in 1..20 {
            let want = (b"hello0123456789".to_vec(), Some(true), chunked.len() - 4);
            assert_eq!(feed(Framing::Chunked, chunked, step), want);
            assert_eq!(feed(Framing::Length(3), b"abcNEXT", step), (b"abc".to_vec(), Some(true), 3));
            assert_eq!(feed(Framing::Absent, b"NEXT", step), (Vec::new(), Some(true), 0));
            assert_eq!(feed(Framing::Length(9), b"abc", step), (b"abc".to_vec(), None, 3));
        }
    }

    #[test]
    fn what_is_not_chunked() {
        let long = [b"1;".as_slice(), &[b'x'; 5000]].concat();
        for bad in [
            b"\r\n".as_slice(),
            b"g\r\n",
            b"5\nhello",
            b"5\r\nhelloX",
            b"5\r\nhello\r\n\r\n",
            b"FFFFFFFFFFFFFFFFF\r\n",
            b"10000000001\r\n",
            b"00000000000000001\r\n",
            b"-1\r\n",
            b"0\r\n\rX",
            &long,
        ] {
            assert_eq!(feed(Framing::Chunked, bad, 7).1, Some(false), "{:?}", &bad[..bad.len().min(20)]);
        }
    }
}
