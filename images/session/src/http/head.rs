//! Request heads: what they ask for and how their body is framed.

use crate::http::connection::Connection;

/// Bytes that a request line and its header fields may take.
pub(crate) const HEAD_MAX: usize = 4096;
/// Bytes of a request target.
pub(crate) const TARGET_MAX: usize = 1024;
/// Bytes of a method.
pub(crate) const METHOD_MAX: usize = 32;
/// Header fields of a request.
const FIELDS_MAX: usize = 64;
/// Bytes of a body.
pub(crate) const BODY_MAX: u64 = 1 << 40;

/// Why a request is refused, as it is told to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub status: u16,
    pub cause: &'static str,
}

pub(crate) const fn refusal(status: u16, cause: &'static str) -> Refusal {
    Refusal { status, cause }
}

/// How a body is framed (RFC 9112, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// None: no body, and none was announced.
    Absent,
    /// `Content-Length`.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// A request head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head<'a> {
    pub method: &'a str,
    pub target: &'a str,
    pub framing: Framing,
    /// What becomes of the connection behind the reply.
    pub connection: Connection,
    /// Spoken in HTTP/1.0: the reply cannot be chunked.
    pub old: bool,
    /// The client waits for `100 Continue`.
    pub expect_continue: bool,
}

/// What the bytes so far are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parsed<'a> {
    /// The beginning of a head.
    Partial,
    /// A head of so many bytes.
    Whole(Head<'a>, usize),
    /// Not a head that we can go on behind: the connection ends.
    Bad(Refusal),
}

/// Reads a head at the start of `bytes`; `more` = there may be bytes of it that are not in `bytes` yet.
pub(crate) fn parse(bytes: &[u8]) -> Parsed<'_> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    let len = match request.parse(bytes) {
        Ok(httparse::Status::Complete(len)) if len <= HEAD_MAX => len,
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_MAX => return Parsed::Partial,
        Ok(_) => return Parsed::Bad(too_long(bytes)),
        Err(httparse::Error::TooManyHeaders) => return Parsed::Bad(refusal(431, "more than 64 header fields")),
        Err(httparse::Error::Version) => {
            return Parsed::Bad(refusal(505, "only HTTP/1.0 and HTTP/1.1 are spoken here"));
        }
        Err(_) => return Parsed::Bad(refusal(400, "not a well-formed HTTP/1.1 request head")),
    };
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
        return Parsed::Bad(refusal(400, "not a well-formed HTTP/1.1 request head"));
    };
    match read_fields(request.headers, minor) {
        _ if target.len() > TARGET_MAX => Parsed::Bad(refusal(414, "the request target is longer than 1024 bytes")),
        _ if method.len() > METHOD_MAX => Parsed::Bad(refusal(501, "unknown method")),
        Ok((framing, connection, expect_continue)) => {
            Parsed::Whole(Head { method, target, framing, connection, old: minor == 0, expect_continue }, len)
        }
        Err(r) => Parsed::Bad(r),
    }
}

fn too_long(bytes: &[u8]) -> Refusal {
    let line_end = bytes.iter().skip(2).position(|b| *b == b'\n');
    if line_end.is_none_or(|at| at > TARGET_MAX + METHOD_MAX + 16) {
        refusal(414, "the request target is longer than 1024 bytes")
    } else {
        refusal(431, "the request head is longer than 4096 bytes")
    }
}

/// Framing, connection, expect. Anything that two readers could take differently is refused (RFC 9112, sections 6.3 and 11.2).
fn read_fields(fields: &[httparse::Header<'_>], minor: u8) -> Result<(Framing, Connection, bool), Refusal> {
    let (mut length, mut chunked, mut hosts, mut expect) = (None, false, 0, false);
    let (mut close, mut keep) = (false, minor > 0);
    for field in fields {
        let (name, value) = (field.name, trimmed(field.value));
        if name.eq_ignore_ascii_case("content-length") {
            if length.replace(content_length(value)?).is_some() {
                return Err(refusal(400, "more than one Content-Length"));
            }
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            if !value.eq_ignore_ascii_case(b"chunked") || chunked {
                return Err(refusal(501, "the only transfer coding spoken here is chunked"));
            }
            chunked = true;
        } else if name.eq_ignore_ascii_case("host") {
            hosts += 1;
        } else if name.eq_ignore_ascii_case("connection") {
            let mut tokens = value.split(|b| *b == b',').map(trimmed);
            close |= tokens.clone().any(|token| token.eq_ignore_ascii_case(b"close"));
            keep |= tokens.any(|token| token.eq_ignore_ascii_case(b"keep-alive"));
        } else if name.eq_ignore_ascii_case("expect") {
            if !value.eq_ignore_ascii_case(b"100-continue") {
                return Err(refusal(417, "the only expectation known here is 100-continue"));
            }
            expect = minor > 0;
        }
    }
    if hosts > 1 || minor > 0 && hosts == 0 {
        return Err(refusal(400, "exactly one Host field is wanted"));
    }
    let framing = match (length, chunked) {
        (Some(_), true) => return Err(refusal(400, "both Content-Length and Transfer-Encoding")),
        (None, true) if minor == 0 => return Err(refusal(400, "Transfer-Encoding in HTTP/1.0")),
        (None, true) => Framing::Chunked,
        (Some(n), false) => Framing::Length(n),
        (None, false) => Framing::Absent,
    };
    let connection = match (close || !keep, minor) {
        (true, _) => Connection::Ends,
        (false, 0) => Connection::StaysAndSays,
        (false, _) => Connection::Stays,
    };
    Ok((framing, connection, expect))
}

fn content_length(value: &[u8]) -> Result<u64, Refusal> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(refusal(400, "Content-Length is not a number"));
    }
    decimal(value).filter(|n| *n <= BODY_MAX).ok_or(refusal(413, "a body may have 2^40 bytes at most"))
}

/// A decimal number; `None` if it is none or does not fit.
pub(crate) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |n, d| match d {
        b'0'..=b'9' => n.checked_mul(10)?.checked_add(u64::from(d - b'0')),
        _ => None,
    })
}

fn trimmed(value: &[u8]) -> &[u8] {
    value.trim_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    fn status(head: &str) -> u16 {
        match parse(head.as_bytes()) {
            Parsed::Bad(r) => r.status,
            Parsed::Whole(..) => 200,
            Parsed::Partial => 0,
        }
    }

    #[test]
    fn table() {
        let h = "Host: x\r\n";
        for (head, want) in [
            (format!("GET / HTTP/1.1\r\n{h}\r\n"), 200),
            (format!("\r\nGET / HTTP/1.1\r\n{h}\r\n"), 200),
            ("GET / HTTP/1.0\r\n\r\n".into(), 200),
            ("GET / HTTP/1.1\r\n\r\n".into(), 400),
            (format!("GET / HTTP/1.1\r\n{h}{h}\r\n"), 400),
            (format!("GET / HTTP/1.1\r\n{h}"), 0),
            (format!("GET / HTTP/2.0\r\n{h}\r\n"), 505),
            (format!("GET / HTTP/1.1\r\n{h} folded\r\n\r\n"), 400),
            ("GET / HTTP/1.1\r\nHost : x\r\n\r\n".into(), 400),
            (format!("GET  / HTTP/1.1\r\n{h}\r\n"), 400),
            (format!("PUT / HTTP/1.1\r\n{h}Content-Length: 5\r\n\r\n"), 200),
            (format!("PUT / HTTP/1.1\r\n{h}Content-Length: +5\r\n\r\n"), 400),
            (format!("PUT / HTTP/1.1\r\n{h}Content-Length: 5, 5\r\n\r\n"), 400),
            (format!("PUT / HTTP/1.1\r\n{h}Content-Length: 5\r\nContent-Length: 5\r\n\r\n"), 400),
            (format!("PUT / HTTP/1.1\r\n{h}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"), 400),
            (format!("PUT / HTTP/1.1\r\n{h}Content-Length: 99999999999999999999999\r\n\r\n"), 413),
            (format!("PUT / HTTP/1.1\r\n{h}Transfer-Encoding: gzip, chunked\r\n\r\n"), 501),
            (format!("PUT / HTTP/1.1\r\n{h}Transfer-Encoding: CHUNKED\r\n\r\n"), 200),
            ("PUT / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".into(), 400),
            (format!("PUT / HTTP/1.1\r\n{h}Expect: magic\r\n\r\n"), 417),
            (format!("GET /{} HTTP/1.1\r\n{h}\r\n", "a".repeat(1024)), 414),
            (format!("GET /{}", "a".repeat(4096)), 414),
            (format!("GET / HTTP/1.1\r\n{h}A: {}", "a".repeat(4096)), 431),
            (format!("GET / HTTP/1.1\r\n{h}{}\r\n", "A: b\r\n".repeat(64)), 431),
            (format!("{} / HTTP/1.1\r\n{h}\r\n", "M".repeat(33)), 501),
        ] {
            assert_eq!(status(&head), want, "{head:?}");
        }
        let whole = parse(b"GET /x HTTP/1.1\r\nhost: a\r\nConnection: foo, Close\r\nEXPECT: 100-continue\r\n\r\nrest");
        let Parsed::Whole(head, len) = whole else { panic!("{whole:?}") };
        assert_eq!((head.method, head.target, head.connection), ("GET", "/x", Connection::Ends));
        assert_eq!((head.old, head.expect_continue, len), (false, true, 74));
    }
}
