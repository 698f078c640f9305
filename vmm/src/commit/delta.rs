//! The body of a checkpoint: published state, and the slot's lines that the standby does not have.
//!
//! All numbers are little-endian. Reserved bytes are zero.
//!
//! | bytes | field |
//! |---|---|
//! | 1 | kind: 1 delta, 2 full copy |
//! | 1 | number of live ranges, 0–8 |
//! | 1 | places of the slot that have a connection, one bit each |
//! | 1 | of these, places whose connection is finished |
//! | 4 | flags |
//! | 8, 8, 8 | incarnation, generation, requests |
//! | 18 each | connections by place: client address (4), client port (2), service port (2), serial (2), `rcv_nxt` (4), `snd_nxt` (4) |
//! | 32 | full copy only: the chain link that the receiver continues from |
//! | 8 each | live ranges: offset, length |
//! | 4 + 64 n each | runs: first line (2), number of lines n > 0 (2), the lines |
//!
//! Runs ascend, do not overlap, and lie in lines that a live range touches. A full copy has all of those lines. Bytes of
//! such a line that no live range covers are zero: undeclared memory never leaves the host (promise P9).
//!
//! Size: with one connection at most 114 B and 68 B a line, which is below 1.25 × 64 × lines + 128 B.

use super::chain::ChainHash;
use super::connections::{Connection, Connections};
use super::live_set::{LiveError, LiveSet};
use super::published::{GENERATION_MAX, Published};
use escape_abi::layout::{LINE, SLOT_LINES, SLOT_SIZE};
use escape_abi::message::Flow;
use escape_abi::meta::{CONNECTIONS_MAX, LIVE_RANGES_MAX, LiveRange};
use std::ops::Range;
use thiserror::Error;

const KIND_DELTA: u8 = 1;
const KIND_FULL: u8 = 2;
const RUN_HEADER_LEN: usize = 4;

/// Longest body: every second line of a slot, each in a run of its own, costs less than this.
pub const BODY_LEN_MAX: usize =
    32 + 18 * CONNECTIONS_MAX + 32 + 8 * LIVE_RANGES_MAX + SLOT_SIZE + RUN_HEADER_LEN * SLOT_LINES;

/// A body that is refused. Nothing of it was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BodyError {
    /// Ends inside a field, or is longer than any body.
    #[error("body of {len} bytes is cut off or too long")]
    Length {
        /// Its length.
        len: usize,
    },
    /// A field has a value that no encoder writes.
    #[error("body: bad {field}")]
    Field {
        /// Which field.
        field: &'static str,
    },
    /// The live ranges are not of one slot.
    #[error("body: {0}")]
    Live(#[from] LiveError),
    /// A run is empty, out of order, or outside the live lines.
    #[error("body: run of {count} lines at line {first} is out of place")]
    Run {
        /// First line.
        first: u16,
        /// Number of lines.
        count: u16,
    },
    /// A full copy that lacks live lines.
    #[error("full copy has {lines} of {live} live lines")]
    Incomplete {
        /// Lines in it.
        lines: usize,
        /// Live lines that it declares.
        live: usize,
    },
}

/// Writes a body into a buffer that is kept for reuse.
#[derive(Debug)]
pub struct BodyWriter<'a> {
    out: &'a mut Vec<u8>,
    lines: usize,
}

impl<'a> BodyWriter<'a> {
    /// Starts a body: a full copy if `resume_chain` is given, else a delta.
    pub fn new(out: &'a mut Vec<u8>, state: &Published, resume_chain: Option<&ChainHash>) -> Self {
        out.clear();
        out.push(if resume_chain.is_some() { KIND_FULL } else { KIND_DELTA });
        out.push(u8::try_from(state.live.ranges().len()).unwrap_or(0));
        let bits = |ended: bool| state.connections.iter().filter(move |(_, c)| c.ended || !ended).fold(0, place_bit);
        out.extend_from_slice(&[bits(false), bits(true)]);
        out.extend_from_slice(&state.flags.to_le_bytes());
        for field in [state.incarnation, state.generation, state.requests] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        for (_, Connection { flow, serial, rcv_nxt, snd_nxt, .. }) in state.connections.iter() {
            out.extend_from_slice(&flow.ip);
            out.extend_from_slice(&flow.port.to_le_bytes());
            out.extend_from_slice(&flow.service_port.to_le_bytes());
            out.extend_from_slice(&serial.to_le_bytes());
            out.extend_from_slice(&rcv_nxt.to_le_bytes());
            out.extend_from_slice(&snd_nxt.to_le_bytes());
        }
        out.extend_from_slice(resume_chain.map_or(&[], |chain| &chain[..]));
        for range in state.live.ranges() {
            out.extend_from_slice(&range.offset.to_le_bytes());
            out.extend_from_slice(&range.len.to_le_bytes());
        }
        Self { out, lines: 0 }
    }

    /// Adds a run of lines: `bytes` is a whole number of lines, from `first_line` on.
    pub fn run(&mut self, first_line: usize, bytes: &[u8]) {
        let count = bytes.len() / LINE;
        // Lines of a slot are fewer than 2^16.
        let (Ok(first), Ok(n)) = (u16::try_from(first_line), u16::try_from(count)) else { return };
        self.out.extend_from_slice(&first.to_le_bytes());
        self.out.extend_from_slice(&n.to_le_bytes());
        self.out.extend_from_slice(bytes);
        self.lines += count;
    }

    /// Lines written.
    pub fn lines(&self) -> usize {
        self.lines
    }
}

/// A body of a peer, checked from first to last byte before anything is done with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body<'a> {
    /// The state that it publishes.
    pub state: Published,
    /// Of a full copy: the chain link to continue from.
    pub resume_chain: Option<ChainHash>,
    runs: &'a [u8],
}

impl<'a> Body<'a> {
    /// Checks and reads a body. Never allocates.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BodyError> {
        if bytes.len() > BODY_LEN_MAX {
            return Err(BodyError::Length { len: bytes.len() });
        }
        let mut fields = Fields { rest: bytes, len: bytes.len() };
        let [kind, n_live, places, ended] = fields.array()?;
        let flags = u32::from_le_bytes(fields.array()?);
        let [incarnation, generation, requests] = [fields.u64()?, fields.u64()?, fields.u64()?];
        let connections = fields.connections(places, ended)?;
        if flags & !Published::FLAGS != 0 || generation > GENERATION_MAX {
            return Err(BodyError::Field { field: "flags or generation" });
        }
        let resume_chain = match kind {
            KIND_DELTA => None,
            KIND_FULL => Some(fields.array()?),
            _ => return Err(BodyError::Field { field: "kind" }),
        };
        let live = fields.live_set(n_live)?;
        let body = Self {
            state: Published { incarnation, generation, connections, requests, flags, live },
            resume_chain,
            runs: fields.rest,
        };
        body.check_runs(bytes.len())?;
        Ok(body)
    }

    /// The runs in order: first line and bytes.
    pub fn runs(&self) -> impl Iterator<Item = (Range<usize>, &'a [u8])> + use<'a> {
        let mut rest = self.runs;
        std::iter::from_fn(move || {
            let (run, after) = split_run(rest)?;
            rest = after;
            Some(run)
        })
    }

    fn check_runs(&self, len: usize) -> Result<(), BodyError> {
        let (mut rest, mut next_line, mut lines) = (self.runs, 0, 0);
        while !rest.is_empty() {
            let ((run, _), after) = split_run(rest).ok_or(BodyError::Length { len })?;
            if run.is_empty() || run.start < next_line || !self.state.live.contains_lines(&run) {
                let of = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
                return Err(BodyError::Run { first: of(run.start), count: of(run.len()) });
            }
            lines += run.len();
            next_line = run.end;
            rest = after;
        }
        let live = self.state.live.lines();
        if self.resume_chain.is_some() && lines != live {
            return Err(BodyError::Incomplete { lines, live });
        }
        Ok(())
    }
}

/// Adds the bit of a connection's place.
fn place_bit(bits: u8, (place, _): (usize, &Connection)) -> u8 {
    bits | 1 << place
}

/// A run and its bytes.
type Run<'a> = (Range<usize>, &'a [u8]);

/// The first run of `bytes` and what follows it.
fn split_run(bytes: &[u8]) -> Option<(Run<'_>, &[u8])> {
    let ([a, b, c, d], rest) = bytes.split_first_chunk::<RUN_HEADER_LEN>()?;
    let (first, count) = (usize::from(u16::from_le_bytes([*a, *b])), usize::from(u16::from_le_bytes([*c, *d])));
    let (lines, after) = rest.split_at_checked(count * LINE)?;
    Some(((first..first + count, lines), after))
}

struct Fields<'a> {
    rest: &'a [u8],
    len: usize,
}

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], BodyError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(BodyError::Length { len: self.len })?;
        self.rest = rest;
        Ok(*head)
    }

    fn u64(&mut self) -> Result<u64, BodyError> {
        self.array().map(u64::from_le_bytes)
    }

    fn connections(&mut self, places: u8, ended: u8) -> Result<Connections, BodyError> {
        let bad = BodyError::Field { field: "connections" };
        if usize::from(places) >> CONNECTIONS_MAX != 0 || ended & !places != 0 {
            return Err(bad);
        }
        let mut connections = Connections::default();
        for place in (0..CONNECTIONS_MAX).filter(|place| places >> place & 1 != 0) {
            let (ip, port, service_port) = (self.array()?, self.array()?, self.array()?);
            let (port, service_port) = (u16::from_le_bytes(port), u16::from_le_bytes(service_port));
            let serial = u16::from_le_bytes(self.array()?);
            let (rcv_nxt, snd_nxt) = (u32::from_le_bytes(self.array()?), u32::from_le_bytes(self.array()?));
            let ended = ended >> place & 1 != 0;
            connections
                .set(place, Connection { flow: Flow { ip, port, service_port }, serial, rcv_nxt, snd_nxt, ended });
        }
        if connections.repeats_a_flow() { Err(bad) } else { Ok(connections) }
    }

    fn live_set(&mut self, n: u8) -> Result<LiveSet, BodyError> {
        let mut ranges = [LiveRange::default(); LIVE_RANGES_MAX];
        let used = ranges.get_mut(..usize::from(n)).ok_or(BodyError::Field { field: "number of live ranges" })?;
        for range in used.iter_mut() {
            *range = LiveRange { offset: u32::from_le_bytes(self.array()?), len: u32::from_le_bytes(self.array()?) };
            if range.len == 0 {
                return Err(BodyError::Field { field: "empty live range" });
            }
        }
        Ok(LiveSet::new(used)?)
    }
}

#[cfg(test)]
#[path = "delta_tests.rs"]
mod tests;
