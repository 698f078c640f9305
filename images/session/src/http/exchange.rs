//! The HTTP capsule: requests in, replies out, one at a time and in order; pipelined requests wait in the receive ring.

use crate::chain::{self, EMPTY_HASH, Link};
use crate::http::body::{BodyReader, Piece};
use crate::http::connection::Connection;
use crate::http::head::{Framing, HEAD_MAX, Head, METHOD_MAX, Parsed, Refusal, TARGET_MAX, parse, refusal};
use crate::http::heap::SliceHeap;
use crate::http::kv::{Map, Value};
use crate::http::outgoing::Outgoing;
use crate::http::reply::{BYTES, JSON, JSON_LINES, REPLY_ROOM, ReplyHead, SMALL, TEXT, refusal_body};
use crate::http::route::{Action, NOTHING, route};
use crate::http::sink::{Sink, VALUE_MAX};
use crate::http::state::{BodyScratch, HttpConnection, HttpState, Phase};
use crate::http::ticks::Ticks;
use crate::tcp::Pipe;
use crate::text::Text;
use core::mem::MaybeUninit;
use escape_arena::{Block, HeapError};
use escape_capsule::SliceKey;

/// Most heads are shorter than this: a short copy first, a long one only when it was too short.
const HEAD_GUESS: usize = 512;

const FULL: Refusal = refusal(507, "the session's heap is full");
const TOO_LARGE: Refusal = refusal(413, "a value may have 131072 bytes at most");
const NO_LENGTH: Refusal = refusal(411, "PUT needs Content-Length or chunked");
const NO_CHUNKS: Refusal = refusal(505, "events come in chunks: HTTP/1.1 is wanted");
const DAMAGED: Refusal = refusal(500, "the session's heap is damaged");

/// The slice as `GET /session` describes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub key: SliceKey,
    pub generation: u64,
    pub node: u32,
    /// Drawn by this guest for this turn: no other guest, and no other run of the same request, has it.
    pub draw: u64,
    /// The slice's clock, us.
    pub clock: i64,
    /// Requests may break the guest.
    pub faults: bool,
    /// Other connections are sending values out of the heap: nothing that frees values may be done now.
    pub others_send: bool,
}

/// What a finished request is answered with. Made and used at once, never stored: its size does not matter.
#[allow(clippy::large_enum_variant)]
enum Answer {
    Small { status: u16, content_type: &'static str, body: Text<SMALL>, allow: Option<&'static str> },
    Large(Outgoing),
    Ticks(Ticks),
    Empty(u16),
}

/// One turn of a session: its state, and what it works with.
pub(crate) struct Exchange<'a, 'p> {
    pub state: &'a mut HttpState,
    pub connection: &'a mut HttpConnection,
    pub scratch: &'a mut MaybeUninit<BodyScratch>,
    pub heap: SliceHeap<'a>,
    pub pipe: &'a mut Pipe<'p>,
    pub place: Place,
    pub waits: bool,
}

impl Exchange<'_, '_> {
    /// Does all that can be done with the bytes and the room that there are now; `true` = a request waits until other connections
    /// have sent their values.
    pub(crate) fn run(&mut self) -> bool {
        self.waits = false;
        loop {
            let went_on = match self.connection.phase {
                Phase::Head { seen } => self.read_head(seen as usize),
                Phase::Body { .. } => self.read_body(),
                Phase::Reply { out, connection } => self.send_large(out, connection),
                Phase::Ticks { ticks, connection } => self.send_tick(ticks, connection),
                Phase::Closed => {
                    self.pipe.skip(self.pipe.available());
                    false
                }
            };
            if !went_on {
                return self.waits;
            }
        }
    }

    /// The method may free a value, and another connection is sending one.
    fn must_wait(&mut self, method: &str) -> bool {
        self.waits = self.place.others_send && matches!(method, "PUT" | "DELETE");
        self.waits
    }

    fn read_head(&mut self, seen: usize) -> bool {
        if self.pipe.at_end() {
            self.connection.close(self.pipe);
            return true;
        }
        let there = self.pipe.available().min(HEAD_MAX);
        if there == 0 || there == seen && !self.pipe.peer_done() || self.pipe.space() < REPLY_ROOM {
            return false;
        }
        let mut short = [0; HEAD_GUESS];
        let n = self.pipe.peek(&mut short);
        let parsed = parse(&short[..n]);
        if there <= n || parsed != Parsed::Partial {
            return self.take_head(&parsed, there);
        }
        let mut long = [0; HEAD_MAX];
        let n = self.pipe.peek(&mut long);
        self.take_head(&parse(&long[..n]), there)
    }

    fn take_head(&mut self, parsed: &Parsed<'_>, there: usize) -> bool {
        match parsed {
            Parsed::Whole(head, _) if self.must_wait(head.method) => false,
            Parsed::Whole(head, len) => {
                self.pipe.skip(*len);
                self.begin(head);
                true
            }
            Parsed::Partial if self.pipe.peer_done() => {
                self.connection.close(self.pipe);
                true
            }
            Parsed::Partial => {
                self.connection.phase = Phase::Head { seen: there as u32 };
                false
            }
            Parsed::Bad(r) => {
                self.refuse_and_close(*r, false);
                true
            }
        }
    }

    /// A head was read: answer it, or read its body.
    fn begin(&mut self, head: &Head<'_>) {
        self.connection.phase = Phase::Head { seen: 0 };
        let action = route(head.method, head.target);
        let stores = matches!(action, Action::PutValue(_));
        match (action, head.framing) {
            (Action::PutValue(_) | Action::TakeBytes, Framing::Absent) => {
                return self.refuse_and_close(NO_LENGTH, false);
            }
            (Action::Tick(_), _) if head.old => return self.refuse_and_close(NO_CHUNKS, false),
            (_, Framing::Length(n)) if stores && n > VALUE_MAX => return self.refuse_and_close(TOO_LARGE, false),
            (_, Framing::Absent | Framing::Length(0)) if !stores && action != Action::TakeBytes => {
                return self.finish(head.method, head.target, head.connection, Sink::Hash, &EMPTY_HASH);
            }
            _ => {}
        }
        let sink = match action {
            Action::PutValue(key) => Sink::store(&mut self.heap, key, head.framing),
            Action::TakeBytes => Sink::Check { bytes: 0, wrong: 0 },
            _ => Sink::Hash,
        };
        let mut scratch =
            BodyScratch { hasher: blake3::Hasher::new(), method: [0; METHOD_MAX], target: [0; TARGET_MAX] };
        let (method, target) = (head.method.as_bytes(), head.target.as_bytes());
        scratch.method[..method.len()].copy_from_slice(method);
        scratch.target[..target.len()].copy_from_slice(target);
        self.scratch.write(scratch);
        self.connection.phase = Phase::Body {
            reader: BodyReader::new(head.framing),
            sink,
            method_len: method.len() as u32,
            target_len: target.len() as u32,
            connection: head.connection,
        };
        if head.expect_continue {
            self.pipe.write(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
    }

    fn read_body(&mut self) -> bool {
        let Phase::Body { mut reader, mut sink, method_len, target_len, connection } = self.connection.phase else {
            return false;
        };
        if self.pipe.space() < REPLY_ROOM {
            return false;
        }
        // SAFETY: the scratch was written in `begin`, when this phase was entered, and is declared as state while it lasts.
        let scratch = unsafe { self.scratch.assume_init_mut() };
        let heap = &mut self.heap;
        let read = self.pipe.read(|bytes| {
            let (taken, piece) = reader.read(bytes);
            let outcome = match piece {
                Piece::Data(data) => {
                    scratch.hasher.update(data);
                    sink.absorb(heap, data);
                    None
                }
                Piece::End => Some(true),
                Piece::Bad => Some(false),
            };
            (taken, (taken, outcome))
        });
        // Nothing to read from: the body may still be complete.
        let (taken, outcome) = read.unwrap_or_else(|| {
            let (_, piece) = reader.read(&[]);
            (0, (piece == Piece::End).then_some(true))
        });
        let too_large = sink.too_large();
        match outcome {
            Some(false) => self.drop_body(sink, refusal(400, "not a chunked body")),
            _ if too_large => self.drop_body(sink, TOO_LARGE),
            Some(true) => {
                let hash = *scratch.hasher.finalize().as_bytes();
                let (method, target) = (scratch.method, scratch.target);
                let text = |bytes| core::str::from_utf8(bytes).unwrap_or_default();
                let method = method.get(..method_len as usize).map(text).unwrap_or_default();
                if self.must_wait(method) {
                    // It began before the others did.
                    self.connection.phase = Phase::Body { reader, sink, method_len, target_len, connection };
                    return false;
                }
                let target = target.get(..target_len as usize).map(text).unwrap_or_default();
                self.connection.phase = Phase::Head { seen: 0 };
                self.finish(method, target, connection, sink, &hash);
            }
            None => {
                self.connection.phase = Phase::Body { reader, sink, method_len, target_len, connection };
                if taken == 0 && self.pipe.at_end() {
                    // The client left in the middle of a body.
                    sink.free(&mut self.heap);
                    self.connection.close(self.pipe);
                    return true;
                }
                return taken > 0;
            }
        }
        true
    }

    /// A body that cannot be read to its end.
    fn drop_body(&mut self, sink: Sink, r: Refusal) {
        sink.free(&mut self.heap);
        self.refuse_and_close(r, false);
    }

    /// The request was read to its end: count it, execute it, answer it.
    fn finish(&mut self, method: &str, target: &str, connection: Connection, sink: Sink, body: &Link) {
        self.state.chain = chain::next(&self.state.chain, method.as_bytes(), target.as_bytes(), body);
        self.state.requests += 1;
        let previous_token = self.state.token;
        self.state.token = mixed(self.place.draw ^ self.state.requests);
        let answer = self.execute(route(method, target), sink, body).unwrap_or_else(|e| match e {
            HeapError::NoRoom { .. } | HeapError::BadSize { .. } => refused(FULL, None),
            _ => refused(DAMAGED, None),
        });
        self.answer(answer, previous_token, method == "HEAD", connection);
    }

    fn execute(&mut self, action: Action<'_>, sink: Sink, body: &Link) -> Result<Answer, HeapError> {
        let state = &mut *self.state;
        Ok(match (action, sink) {
            (Action::Refuse(r, allow), _) => refused(r, allow),
            (Action::Count, _) => {
                state.counter += 1;
                let mut t = Text::new();
                t.dec(state.counter).str("\n");
                small(200, TEXT, t)
            }
            (Action::SendBytes(end), _) => Answer::Large(Outgoing::Pattern { at: 0, end }),
            (Action::TakeBytes, Sink::Check { bytes, wrong }) => {
                let mut t = Text::new();
                t.str("{\"bytes\":").dec(bytes).str(",\"wrong\":").dec(wrong);
                t.str(",\"blake3\":\"").hex(body).str("\"}\n");
                small(200, JSON, t)
            }
            (Action::Tick(ticks), _) => Answer::Ticks(ticks),
            (Action::Fault(kind), _) if self.place.faults => kind.happen(),
            (Action::Fault(_), _) => refused(NOTHING, None),
            (Action::Describe, _) => small(200, JSON, describe(state, self.place)),
            (Action::Dirty(n), _) => {
                self.heap.with(|heap| dirty(heap, &mut state.dirty, n))?;
                let mut t = Text::new();
                t.str("{\"dirtied\":").dec(n as u64).str("}\n");
                small(200, JSON, t)
            }
            (Action::GetValue(key), _) => match self.heap.with(|heap| Map { heap, root: &mut state.map }.get(key))? {
                Some(v) => Answer::Large(Outgoing::Value {
                    block: v.block.offset(),
                    at: v.start as u32,
                    end: (v.start + v.len) as u32,
                }),
                None => refused(refusal(404, "no such key"), None),
            },
            (Action::DeleteValue(key), _) => {
                match self.heap.with(|heap| Map { heap, root: &mut state.map }.remove(key))? {
                    true => Answer::Empty(204),
                    false => refused(refusal(404, "no such key"), None),
                }
            }
            (Action::PutValue(_), Sink::Store { block, start, len }) => {
                let block = Block::from_offset(block).ok_or(HeapError::NotABlock { offset: 0 })?;
                let value = Value { block, start: start as usize, len: len as usize };
                let new = self.heap.with(|heap| {
                    let entered = Map { heap, root: &mut state.map }.insert(value);
                    if entered.is_err() {
                        heap.free(block)?;
                    }
                    entered
                })?;
                Answer::Empty(if new { 201 } else { 204 })
            }
            (Action::PutValue(_) | Action::TakeBytes, _) => refused(FULL, None),
        })
    }

    fn answer(&mut self, answer: Answer, previous_token: u64, head_only: bool, connection: Connection) {
        let mut head = ReplyHead {
            status: 200,
            content_type: BYTES,
            length: Some(0),
            allow: None,
            connection,
            requests: self.state.requests,
            chain: self.state.chain,
            token: self.state.token,
            previous_token,
        };
        match answer {
            Answer::Small { status, content_type, body, allow } => {
                let body = body.as_bytes();
                head = ReplyHead { status, content_type, allow, length: Some(body.len() as u64), ..head };
                head.write(self.pipe, if head_only { &[] } else { body });
            }
            Answer::Empty(status) => ReplyHead { status, ..head }.write(self.pipe, &[]),
            Answer::Large(out) => {
                head.length = Some(out.len());
                head.write(self.pipe, &[]);
                if !head_only && out.len() > 0 {
                    self.connection.phase = Phase::Reply { out, connection };
                    return;
                }
            }
            Answer::Ticks(ticks) => {
                ReplyHead { content_type: JSON_LINES, length: None, ..head }.write(self.pipe, &[]);
                if !head_only {
                    self.connection.phase = Phase::Ticks { ticks, connection };
                    return;
                }
            }
        }
        if connection == Connection::Ends {
            self.connection.close(self.pipe);
        }
    }

    fn refuse_and_close(&mut self, r: Refusal, head_only: bool) {
        // Nothing was executed, so there is nothing new to remember.
        self.answer(refused(r, None), self.state.token, head_only, Connection::Ends);
    }

    fn send_large(&mut self, mut out: Outgoing, connection: Connection) -> bool {
        let heap = &mut self.heap;
        let sent = self.pipe.fill(|space| out.fill(heap, space));
        self.connection.phase = match out.len() {
            0 => Phase::Head { seen: 0 },
            _ => Phase::Reply { out, connection },
        };
        if out.len() == 0 && connection == Connection::Ends {
            self.connection.close(self.pipe);
        }
        sent > 0 || out.len() == 0
    }

    fn send_tick(&mut self, mut ticks: Ticks, connection: Connection) -> bool {
        let over = ticks.run(self.place.clock, self.place.node, self.pipe);
        self.connection.phase = if over { Phase::Head { seen: 0 } } else { Phase::Ticks { ticks, connection } };
        if over && connection == Connection::Ends {
            self.connection.close(self.pipe);
        }
        over
    }
}

/// Changes exactly `n` bytes of the block that is there for that. It has the room of the largest change so far: bytes that are never
/// changed would be state to copy all the same.
fn dirty(heap: &mut escape_arena::Heap<'_>, place: &mut u32, n: usize) -> Result<(), HeapError> {
    let present = Block::from_offset(*place);
    let room = present.map_or(Ok(0), |block| heap.bytes(block).map(<[u8]>::len))?;
    let block = match present {
        Some(block) if room >= n => block,
        _ => {
            // The old one goes first: the heap has no room for both when they are large. Nobody reads what is in it.
            if let Some(block) = present {
                *place = 0;
                heap.free(block)?;
            }
            let larger = heap.alloc(n)?;
            heap.bytes_mut(larger)?.fill(0);
            *place = larger.offset();
            larger
        }
    };
    for byte in heap.bytes_mut(block)?.iter_mut().take(n) {
        *byte = byte.wrapping_add(1);
    }
    Ok(())
}

fn describe(state: &HttpState, place: Place) -> Text<SMALL> {
    let mut t = Text::new();
    t.str("{\"slice\":\"").dec(u64::from(place.key.slot)).str(":").dec(place.key.incarnation);
    t.str("\",\"generation\":").dec(place.generation).str(",\"node\":").dec(u64::from(place.node));
    t.str(",\"requests\":").dec(state.requests).str(",\"counter\":").dec(state.counter);
    t.str(",\"heap_bytes\":").dec(u64::from(state.heap_extent));
    t.str(",\"chain\":\"").hex(&state.chain).str("\"}\n");
    t
}

fn refused(r: Refusal, allow: Option<&'static str>) -> Answer {
    Answer::Small { status: r.status, content_type: JSON, body: refusal_body(r), allow }
}

fn small(status: u16, content_type: &'static str, body: Text<SMALL>) -> Answer {
    Answer::Small { status, content_type, body, allow: None }
}

/// One step of SplitMix64: neighbouring inputs give unrelated outputs.
const fn mixed(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
