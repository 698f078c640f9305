//! An incremental, bounded parser of the replies on a connection (RFC 9112 with `Content-Length` framing, which is all
//! that the session protocol uses). It never looks at more than it was given and keeps at most one head.

use super::chain::{self, Hash};

/// Most bytes of a reply's head.
pub const HEAD_MAX: usize = 4096;

/// What the head of a reply says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyHead {
    /// Status code.
    pub status: u16,
    /// `X-Requests`: how many requests the session has had, this one included.
    pub requests: u64,
    /// `X-Chain`.
    pub chain: Hash,
    /// `Content-Length`, 0 for 204 and 304.
    pub length: u64,
    /// `X-Token`: drawn when the request was executed. `None`: the service has no such thing.
    pub token: Option<u64>,
    /// `X-Previous-Token`: that of the request before, as the session remembers it.
    pub previous_token: Option<u64>,
}

/// Why the bytes are no reply of this protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// No end of the head within [`HEAD_MAX`] bytes.
    #[error("no end of the reply's head within {HEAD_MAX} bytes")]
    HeadTooLong,
    /// The first line is no status line.
    #[error("not an HTTP/1.1 status line: {line:?}")]
    StatusLine {
        /// The line, shortened.
        line: String,
    },
    /// A header that every reply must carry is missing or unreadable.
    #[error("header {name} is missing or unreadable")]
    Header {
        /// Name of the header.
        name: &'static str,
    },
}

/// One step of the parser.
#[derive(Debug, PartialEq, Eq)]
pub enum ReplyStep<'a> {
    /// Everything given was taken; more bytes are needed.
    NeedMore,
    /// A head is complete.
    Head(ReplyHead),
    /// The next bytes of the body.
    Body(&'a [u8]),
    /// The reply is complete.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Body { left: u64 },
}

/// Cuts a byte stream into replies.
#[derive(Debug)]
pub struct ReplyParser {
    state: State,
    /// The beginning of a head that came in pieces; at most [`HEAD_MAX`] bytes.
    partial: Vec<u8>,
}

impl ReplyParser {
    /// A parser at the beginning of a reply.
    pub fn new() -> Self {
        Self { state: State::Head, partial: Vec::new() }
    }

    /// Whether a reply has begun and is not complete.
    pub fn is_inside_a_reply(&self) -> bool {
        !self.partial.is_empty() || self.state != State::Head
    }

    /// Takes bytes off the front of `input` and says what they are.
    pub fn step<'a>(&mut self, input: &mut &'a [u8]) -> Result<ReplyStep<'a>, ReplyError> {
        match self.state {
            State::Body { left: 0 } => {
                self.state = State::Head;
                Ok(ReplyStep::End)
            }
            _ if input.is_empty() => Ok(ReplyStep::NeedMore),
            State::Body { left } => {
                let take = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                let (body, rest) = input.split_at(take);
                *input = rest;
                self.state = State::Body { left: left - take as u64 };
                Ok(ReplyStep::Body(body))
            }
            State::Head => self.head_step(input),
        }
    }

    fn head_step<'a>(&mut self, input: &mut &'a [u8]) -> Result<ReplyStep<'a>, ReplyError> {
        let head = if self.partial.is_empty() {
            match end_of_head(input) {
                Some(end) => {
                    let (head, rest) = input.split_at(end);
                    *input = rest;
                    parse_head(head)?
                }
                None => return self.keep(input),
            }
        } else {
            // The end may lie across the border: look for it in what is kept plus the new bytes.
            let kept = self.partial.len();
            let room = HEAD_MAX.saturating_sub(kept).min(input.len());
            let (new, _) = input.split_at(room);
            self.partial.extend_from_slice(new);
            match end_of_head(&self.partial) {
                Some(end) => {
                    let (_, rest) = input.split_at(end.saturating_sub(kept).min(input.len()));
                    *input = rest;
                    self.partial.truncate(end);
                    let head = parse_head(&self.partial)?;
                    self.partial.clear();
                    head
                }
                None if self.partial.len() >= HEAD_MAX => return Err(ReplyError::HeadTooLong),
                None => {
                    *input = &[];
                    return Ok(ReplyStep::NeedMore);
                }
            }
        };
        self.state = State::Body { left: head.length };
        Ok(ReplyStep::Head(head))
    }

    fn keep<'a>(&mut self, input: &mut &'a [u8]) -> Result<ReplyStep<'a>, ReplyError> {
        if input.len() >= HEAD_MAX {
            return Err(ReplyError::HeadTooLong);
        }
        self.partial.extend_from_slice(input);
        *input = &[];
        Ok(ReplyStep::NeedMore)
    }
}

impl Default for ReplyParser {
    fn default() -> Self {
        Self::new()
    }
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let bounded = bytes.get(..HEAD_MAX).unwrap_or(bytes);
    bounded.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

fn parse_head(head: &[u8]) -> Result<ReplyHead, ReplyError> {
    let mut lines = head.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii_end);
    let status = status_of(lines.next().unwrap_or_default())?;
    let (mut requests, mut hash, mut length) = (None, None, None);
    let (mut token, mut previous_token) = (None, None);
    for line in lines.filter(|line| !line.is_empty()) {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"X-Requests") {
            requests = decimal(value);
        } else if name.eq_ignore_ascii_case(b"X-Chain") {
            hash = chain::from_hex(value);
        } else if name.eq_ignore_ascii_case(b"X-Token") {
            token = hexadecimal(value);
        } else if name.eq_ignore_ascii_case(b"X-Previous-Token") {
            previous_token = hexadecimal(value);
        } else if name.eq_ignore_ascii_case(b"Content-Length") {
            length = decimal(value);
        }
    }
    // RFC 9110 section 6.4.1: these have no body whatever their headers say.
    let bodiless = matches!(status, 204 | 304);
    Ok(ReplyHead {
        status,
        requests: requests.ok_or(ReplyError::Header { name: "X-Requests" })?,
        chain: hash.ok_or(ReplyError::Header { name: "X-Chain" })?,
        token,
        previous_token,
        length: if bodiless { 0 } else { length.ok_or(ReplyError::Header { name: "Content-Length" })? },
    })
}

fn status_of(line: &[u8]) -> Result<u16, ReplyError> {
    let refused = || ReplyError::StatusLine { line: String::from_utf8_lossy(line).chars().take(60).collect() };
    let rest = line.strip_prefix(b"HTTP/1.1 ").ok_or_else(refused)?;
    let code = rest.split(|&byte| byte == b' ').next().and_then(decimal).ok_or_else(refused)?;
    u16::try_from(code).ok().filter(|code| (100..600).contains(code)).ok_or_else(refused)
}

fn hexadecimal(text: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()
}

fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const CHAIN: &str = "00000000000000000000000000000000000000000000000000000000000000ff";

    fn reply(status: &str, requests: u64, body: &str) -> String {
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nX-Requests: {requests}\r\nX-Chain: {CHAIN}\r\n\r\n{body}"
        )
    }

    /// Everything the parser says about `bytes` given in pieces of `piece`.
    fn parse_in_pieces(bytes: &[u8], piece: usize) -> (Vec<u64>, Vec<u8>, u32) {
        let (mut requests, mut body, mut ends) = (Vec::new(), Vec::new(), 0);
        let mut parser = ReplyParser::new();
        for chunk in bytes.chunks(piece) {
            let mut input = chunk;
            loop {
                match parser.step(&mut input).unwrap() {
                    ReplyStep::NeedMore => break,
                    ReplyStep::Head(head) => requests.push(head.requests),
                    ReplyStep::Body(bytes) => body.extend_from_slice(bytes),
                    ReplyStep::End => ends += 1,
                }
            }
        }
        assert!(!parser.is_inside_a_reply());
        (requests, body, ends)
    }

    #[test]
    fn replies_are_the_same_however_the_bytes_are_cut() {
        let text = reply("200 OK", 1, "hello") + &reply("204 No Content", 2, "") + &reply("404 Not Found", 3, "x");
        for piece in 1..text.len() {
            assert_eq!(parse_in_pieces(text.as_bytes(), piece), (vec![1, 2, 3], b"hellox".to_vec(), 3), "{piece}");
        }
    }

    #[test]
    fn what_is_no_reply_is_refused_with_its_cause() {
        let step = |text: &str| ReplyParser::new().step(&mut text.as_bytes()).unwrap_err();
        assert!(matches!(step("SSH-2.0\r\n\r\n"), ReplyError::StatusLine { .. }));
        assert!(matches!(step("HTTP/1.1 9999 x\r\n\r\n"), ReplyError::StatusLine { .. }));
        assert_eq!(step("HTTP/1.1 200 OK\r\n\r\n"), ReplyError::Header { name: "X-Requests" });
        let no_length = reply("200 OK", 1, "").replace("Content-Length: 0\r\n", "");
        assert_eq!(step(&no_length), ReplyError::Header { name: "Content-Length" });
        assert_eq!(step(&"a".repeat(HEAD_MAX)), ReplyError::HeadTooLong);
    }

    #[test]
    fn a_head_without_end_is_refused_at_the_bound_in_any_cut() {
        let text = "HTTP/1.1 200 OK\r\nA: ".to_owned() + &"a".repeat(2 * HEAD_MAX);
        let mut parser = ReplyParser::new();
        let refused = text.as_bytes().chunks(100).any(|chunk| {
            let mut input = chunk;
            matches!(parser.step(&mut input), Err(ReplyError::HeadTooLong))
        });
        assert!(refused);
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut random = super::super::seeded::Seeded::new(7, 7);
        for _ in 0..2_000 {
            let mut bytes = reply("200 OK", 1, "hello").into_bytes();
            for _ in 0..3 {
                let at = random.below(bytes.len() as u64) as usize;
                bytes[at] = random.draw() as u8;
            }
            let mut parser = ReplyParser::new();
            let mut input = &bytes[..];
            while let Ok(step) = parser.step(&mut input) {
                if step == ReplyStep::NeedMore {
                    break;
                }
            }
        }
    }
}
