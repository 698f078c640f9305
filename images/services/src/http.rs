//! HTTP: one request after the other, each answered before the next is looked at.

use escape_process::{Session, SliceState};
use escape_session::pattern;
use std::time::Duration;

/// Longest head of a request, bytes.
const HEAD_MAX: usize = 8 << 10;
/// Header lines of a request.
const HEADERS_MAX: usize = 64;
/// Longest body that is skipped, bytes.
const BODY_MAX: usize = 16 << 10;
/// Longest `/bytes`.
const BYTES_MAX: u64 = 1 << 40;
/// Room that a reply's head and a small body need.
const REPLY_MAX: usize = 512;
/// `POST /fault`.
const FAULT_STANDS_STILL: Duration = Duration::from_secs(1);
/// Pattern bytes made at once.
const PIECE: usize = 4096;

/// What a session keeps between turns.
#[derive(Clone, Copy)]
#[repr(C)]
struct Http {
    count: u64,
    /// Bytes of the pattern that are to be sent, and how many were.
    wanted: u64,
    sent: u64,
    /// 1: the connection ends behind the reply.
    ends: u64,
}
// SAFETY: four integers.
unsafe impl SliceState for Http {}

/// A request that is here as a whole.
struct Request {
    len: usize,
    method: String,
    target: String,
    ends: bool,
}

/// Why there is none.
enum NoRequest {
    /// More must come.
    Part,
    /// This status, and the end.
    Refused(u16),
}

/// Answers what can be answered now.
pub fn run(session: &mut Session<'_>, node: u32) {
    loop {
        send_bytes(session);
        let state = *session.state::<Http>();
        if state.sent < state.wanted || session.room() < REPLY_MAX {
            return;
        }
        if state.ends != 0 {
            return session.close();
        }
        match next(session.input()) {
            Ok(request) => {
                session.consume(request.len);
                answer(session, &request, node);
            }
            Err(NoRequest::Part) if session.at_end() => return session.close(),
            Err(NoRequest::Part) => return,
            Err(NoRequest::Refused(status)) => {
                session.state::<Http>().ends = 1;
                reply(session, status, "text/plain", "");
            }
        }
    }
}

fn next(input: &[u8]) -> Result<Request, NoRequest> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut headers);
    let head_len = match head.parse(input.get(..HEAD_MAX.min(input.len())).unwrap_or_default()) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if input.len() < HEAD_MAX => return Err(NoRequest::Part),
        _ => return Err(NoRequest::Refused(400)),
    };
    let value = |name: &str| {
        let header = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(header.value).ok()
    };
    if value("Transfer-Encoding").is_some() {
        return Err(NoRequest::Refused(411));
    }
    let body: usize = match value("Content-Length").map(str::parse) {
        None => 0,
        Some(Ok(len)) if len <= BODY_MAX => len,
        Some(_) => return Err(NoRequest::Refused(413)),
    };
    let len = head_len + body;
    if input.len() < len {
        return Err(NoRequest::Part);
    }
    let (method, target) = (head.method.unwrap_or_default().to_owned(), head.path.unwrap_or_default().to_owned());
    let asked = value("Connection").unwrap_or_default();
    let ends =
        asked.eq_ignore_ascii_case("close") || (head.version == Some(0) && !asked.eq_ignore_ascii_case("keep-alive"));
    Ok(Request { len, method, target, ends })
}

fn answer(session: &mut Session<'_>, request: &Request, node: u32) {
    session.count_request();
    session.state::<Http>().ends = u64::from(request.ends);
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    match (request.method.as_str(), path) {
        ("POST", "/counter") => {
            let state = session.state::<Http>();
            state.count += 1;
            let count = state.count.to_string();
            reply(session, 200, "text/plain", &count);
        }
        ("GET", "/session" | "/") => {
            let (key, requests) = (session.key(), session.requests());
            let count = session.state::<Http>().count;
            let facts = format!(
                "{{\"slot\":{},\"incarnation\":{},\"node\":{node},\"requests\":{requests},\"count\":{count}}}\n",
                key.slot, key.incarnation
            );
            reply(session, 200, "application/json", &facts);
        }
        ("GET", "/bytes") => match query.strip_prefix("n=").and_then(|n| n.parse().ok()).filter(|n| *n <= BYTES_MAX) {
            Some(wanted) => {
                let state = session.state::<Http>();
                (state.wanted, state.sent) = (wanted, 0);
                head(session, 200, "application/octet-stream", wanted);
                send_bytes(session);
            }
            None => reply(session, 400, "text/plain", "n=N is wanted\n"),
        },
        ("POST", "/fault") if query == "kind=exit" => end_the_process(),
        ("POST", "/fault") => reply(session, 400, "text/plain", "kind=exit is wanted\n"),
        _ => reply(session, 404, "text/plain", ""),
    }
}

/// For drills: the process stands still for a moment, so that what others ask for is not read any more, and ends in the middle of a turn.
fn end_the_process() -> ! {
    std::thread::sleep(FAULT_STANDS_STILL);
    std::process::exit(1)
}

fn head(session: &mut Session<'_>, status: u16, kind: &str, len: u64) {
    let reason = match status {
        200 => "OK",
        404 => "Not Found",
        411 => "Length Required",
        413 => "Content Too Large",
        _ => "Bad Request",
    };
    let ends = if session.state::<Http>().ends != 0 { "Connection: close\r\n" } else { "" };
    let head = format!("HTTP/1.1 {status} {reason}\r\nContent-Type: {kind}\r\nContent-Length: {len}\r\n{ends}\r\n");
    session.write(head.as_bytes());
}

fn reply(session: &mut Session<'_>, status: u16, kind: &str, body: &str) {
    head(session, status, kind, body.len() as u64);
    session.write(body.as_bytes());
}

/// As much of the pattern as there is room for.
fn send_bytes(session: &mut Session<'_>) {
    let mut state = *session.state::<Http>();
    let mut piece = [0; PIECE];
    while state.sent < state.wanted {
        let left = usize::try_from(state.wanted - state.sent).unwrap_or(usize::MAX);
        let Some(piece) = piece.get_mut(..session.room().min(left).min(PIECE)).filter(|piece| !piece.is_empty()) else {
            break;
        };
        pattern::fill(piece, state.sent);
        state.sent += session.write(piece) as u64;
    }
    *session.state::<Http>() = state;
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_taken_whole_or_not() {
        let text = b"POST /counter HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.0\r\n\r\n";
        for len in 0..text.len() - 18 {
            assert!(matches!(next(&text[..len]), Err(NoRequest::Part)), "{len}");
        }
        let first = next(text).ok().unwrap();
        assert_eq!((first.method.as_str(), first.target.as_str(), first.ends), ("POST", "/counter", false));
        assert!(next(&text[first.len..]).ok().unwrap().ends, "HTTP/1.0");
        for (wrong, status) in [
            (&b"\0\r\n\r\n"[..], 400),
            (&[b'A'; HEAD_MAX], 400),
            (b"PUT / HTTP/1.1\r\nContent-Length: 999999\r\n\r\n", 413),
            (b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        ] {
            assert!(matches!(next(wrong), Err(NoRequest::Refused(s)) if s == status));
        }
    }
}
