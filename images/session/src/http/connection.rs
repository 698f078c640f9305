//! What becomes of a connection behind a reply.

/// What becomes of the connection behind a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Connection {
    /// It stays, as HTTP/1.1 has it.
    Stays,
    /// It stays, and the reply says so: an HTTP/1.0 client that asked for it knows only by being told (RFC 9112, C.2.2).
    StaysAndSays,
    /// It ends.
    Ends,
}

impl Connection {
    /// The header field that says so, if one must.
    pub(crate) const fn field(self) -> &'static str {
        match self {
            Self::Stays => "",
            Self::StaysAndSays => "\r\nConnection: keep-alive",
            Self::Ends => "\r\nConnection: close",
        }
    }
}
