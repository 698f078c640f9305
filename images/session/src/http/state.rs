//! The HTTP capsule's state in the slot: of a session, and of each of its connections.

use crate::chain::{self, Link};
use crate::http::body::BodyReader;
use crate::http::connection::Connection;
use crate::http::head::{METHOD_MAX, TARGET_MAX};
use crate::http::heap::SliceHeap;
use crate::http::outgoing::Outgoing;
use crate::http::sink::Sink;
use crate::http::ticks::Ticks;
use crate::tcp::Pipe;

/// State that is needed only while a body is read, so that it is not part of every checkpoint.
#[repr(C)]
pub(crate) struct BodyScratch {
    pub(super) hasher: blake3::Hasher,
    pub(super) method: [u8; METHOD_MAX],
    pub(super) target: [u8; TARGET_MAX],
}

/// What is going on on a connection.
#[derive(Clone, Copy, Debug)]
#[repr(C, u32)]
pub(super) enum Phase {
    /// Between requests; so many bytes of a head were seen and are not a whole one.
    Head { seen: u32 },
    /// Reading a body.
    Body { reader: BodyReader, sink: Sink, method_len: u32, target_len: u32, connection: Connection },
    /// Sending a large body.
    Reply { out: Outgoing, connection: Connection },
    /// Sending ticks.
    Ticks { ticks: Ticks, connection: Connection },
    /// Closed by us: what still comes is thrown away.
    Closed,
}

/// How far HTTP is on one connection.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct HttpConnection {
    pub(super) phase: Phase,
}

/// The HTTP state of a session, which all of its connections share.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct HttpState {
    pub requests: u64,
    pub(super) counter: u64,
    pub(super) chain: Link,
    /// Drawn at each request and shown in its reply and in the next one: a state that clients have seen and that was
    /// lost cannot be made again by running the same request once more.
    pub(super) token: u64,
    /// Root of the key/value map; 0 = none.
    pub(super) map: u32,
    /// Block that `POST /dirty` changes; 0 = none.
    pub(super) dirty: u32,
    /// Bytes of the heap that are state; 0 = not formatted.
    pub heap_extent: u32,
}

impl HttpState {
    pub(crate) const fn new() -> Self {
        Self { requests: 0, counter: 0, chain: chain::START, token: 0, map: 0, dirty: 0, heap_extent: 0 }
    }
}

impl HttpConnection {
    pub(crate) const fn new() -> Self {
        Self { phase: Phase::Head { seen: 0 } }
    }

    /// A value is being sent: its block must stay.
    pub(crate) const fn sends_value(&self) -> bool {
        matches!(self.phase, Phase::Reply { out: Outgoing::Value { .. }, .. })
    }

    /// The connection is over, its session is not: what it had begun to store goes.
    pub(crate) fn give_up(&mut self, heap: &mut SliceHeap<'_>) {
        if let Phase::Body { sink, .. } = self.phase {
            sink.free(heap);
        }
        self.phase = Phase::Closed;
    }

    /// A body is being read: its scratch is state.
    pub(crate) const fn reads_body(&self) -> bool {
        matches!(self.phase, Phase::Body { .. })
    }

    /// Between requests, with nothing begun.
    pub(crate) const fn idle(&self) -> bool {
        matches!(self.phase, Phase::Head { .. })
    }

    /// Slice clock at which there is something to do though nothing came.
    pub(crate) const fn wake_at(&self) -> Option<i64> {
        match self.phase {
            Phase::Ticks { ticks, .. } => Some(ticks.due_at()),
            _ => None,
        }
    }

    /// Ends a session that is idle.
    pub(crate) fn close(&mut self, pipe: &mut Pipe<'_>) {
        self.phase = Phase::Closed;
        pipe.close();
    }
}
