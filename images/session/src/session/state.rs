//! What the session capsule keeps of one connection.

use crate::http::HttpConnection;
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

/// How far the service of one connection is.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct ServedState {
    /// [`SessionKind`] as a number: any bytes may be looked at.
    kind: u32,
    /// 1: a request waits until another connection has sent a value.
    pub waits: u32,
    pub http: HttpConnection,
    pub stream: StreamState,
}

impl ServedState {
    pub(crate) const fn new(kind: SessionKind) -> Self {
        Self { kind: kind as u32, waits: 0, http: HttpConnection::new(), stream: StreamState::new() }
    }

    pub(crate) const fn kind(&self) -> Option<SessionKind> {
        match self.kind {
            1 => Some(SessionKind::Http),
            2 => Some(SessionKind::Stream),
            _ => None,
        }
    }
}
