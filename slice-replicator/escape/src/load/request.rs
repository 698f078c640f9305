//! The requests that a session sends, as the bytes on the wire.

use super::chain::Link;

/// One request of the session protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// `POST /counter`: adds one to the session's counter, answers the new count.
    Counter,
    /// `PUT /kv/k<key>`.
    Put {
        /// Number of the key.
        key: u8,
        /// The value to store.
        value: Vec<u8>,
    },
    /// `GET /kv/k<key>`.
    Get {
        /// Number of the key.
        key: u8,
    },
    /// `DELETE /kv/k<key>`.
    Delete {
        /// Number of the key.
        key: u8,
    },
    /// `GET /bytes?n=<n>`: `n` pattern bytes.
    Bytes {
        /// Bytes asked for.
        n: u64,
    },
    /// `POST /dirty?n=<n>`: changes `n` bytes of session heap.
    Dirty {
        /// Bytes to change.
        n: u32,
    },
    /// `GET /session`: which slice and node serve this connection.
    Session,
}

impl Request {
    /// The method.
    pub fn method(&self) -> &'static str {
        match self {
            Self::Counter | Self::Dirty { .. } => "POST",
            Self::Put { .. } => "PUT",
            Self::Get { .. } | Self::Bytes { .. } | Self::Session => "GET",
            Self::Delete { .. } => "DELETE",
        }
    }

    /// The request target.
    pub fn target(&self) -> String {
        match self {
            Self::Counter => "/counter".into(),
            Self::Put { key, .. } | Self::Get { key } | Self::Delete { key } => format!("/kv/k{key}"),
            Self::Bytes { n } => format!("/bytes?n={n}"),
            Self::Dirty { n } => format!("/dirty?n={n}"),
            Self::Session => "/session".into(),
        }
    }

    /// The body, empty for most.
    pub fn body(&self) -> &[u8] {
        match self {
            Self::Put { value, .. } => value,
            _ => &[],
        }
    }

    /// Appends the request to `out` and returns its link of the chain.
    pub fn encode(&self, out: &mut Vec<u8>) -> Link {
        let (method, target, body) = (self.method(), self.target(), self.body());
        for part in [method, " ", &target, " HTTP/1.1\r\nHost: capsule\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
        if matches!(method, "PUT" | "POST") {
            out.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(body);
        Link::new(method, &target, body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_put_carries_its_length_and_body() {
        let mut out = Vec::new();
        let link = Request::Put { key: 3, value: b"abc".to_vec() }.encode(&mut out);
        assert_eq!(out, b"PUT /kv/k3 HTTP/1.1\r\nHost: capsule\r\nContent-Length: 3\r\n\r\nabc");
        assert_eq!(link, Link::new("PUT", "/kv/k3", b"abc"));
    }
}
