//! What the reply to a request must be, known when the request is sent: the session's own past decides it.

/// Which status is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpectedStatus {
    /// Exactly this one.
    Exactly(u16),
    /// Any 2xx (stored: 200, 201 and 204 are all correct answers to a PUT, RFC 9110 section 9.3.4).
    Success,
}

impl ExpectedStatus {
    /// Whether a reply's status is right.
    pub fn accepts(self, status: u16) -> bool {
        match self {
            Self::Exactly(wanted) => status == wanted,
            Self::Success => (200..300).contains(&status),
        }
    }
}

/// Which body is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExpectedBody {
    /// These bytes and no others.
    Exactly(Box<[u8]>),
    /// This number in decimal, with or without a newline after it.
    Number(u64),
    /// The first `n` pattern bytes.
    Pattern {
        /// Length of the body.
        n: u64,
    },
    /// Facts about the session, as JSON; its counter among them.
    SessionFacts {
        /// What the counter must be.
        counter: u64,
    },
    /// Not part of the protocol: any text up to [`FREE_BODY_MAX`] bytes.
    Free,
}

/// Most bytes of a body whose content the protocol leaves open.
pub const FREE_BODY_MAX: u64 = 4096;

/// What the reply must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The status.
    pub status: ExpectedStatus,
    /// The body.
    pub body: ExpectedBody,
}
