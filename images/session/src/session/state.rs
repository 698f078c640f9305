//! The session capsule's state in the slot.

use crate::http::HttpState;
use crate::session::stream::StreamState;

/// What is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum SessionKind {
    /// HTTP.
    Http = 1,
    /// The checked byte stream.
    Stream = 2,
}

/// State of one session.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct SessionState {
    /// [`SessionKind`] as a number: any bytes may be looked at.
    kind: u32,
    /// Slice clock of the last request, or of the start.
    pub active_at: i64,
    pub http: HttpState,
    pub stream: StreamState,
}

impl SessionState {
    pub(crate) const fn new(kind: SessionKind, clock: i64) -> Self {
        Self { kind: kind as u32, active_at: clock, http: HttpState::new(), stream: StreamState::new() }
    }

    pub(crate) const fn kind(&self) -> Option<SessionKind> {
        match self.kind {
            1 => Some(SessionKind::Http),
            2 => Some(SessionKind::Stream),
            _ => None,
        }
    }
    /// A request body is being read: the scratch beside this is state too.
    pub(crate) const fn reads_body(&self) -> bool {
        self.http.reads_body()
    }
    /// Bytes of the heap, from its start, that are state.
    pub(crate) const fn heap_extent(&self) -> u32 {
        self.http.heap_extent
    }
    pub(crate) const fn requests(&self) -> u64 {
        self.http.requests
    }
}
