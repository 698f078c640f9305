//! Which request means what.

use crate::http::fault::FaultKind;
use crate::http::head::{BODY_MAX, Refusal, decimal, refusal};
use crate::http::ticks::Ticks;

/// Bytes of a key.
pub(crate) const KEY_MAX: usize = 255;
/// Bytes that one `POST /dirty` may change.
pub(crate) const DIRTY_MAX: usize = 64 << 10;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action<'a> {
    GetValue(&'a [u8]),
    PutValue(&'a [u8]),
    DeleteValue(&'a [u8]),
    Count,
    SendBytes(u64),
    TakeBytes,
    Dirty(usize),
    Describe,
    Tick(Ticks),
    /// Only where drills may break things; else there is no such resource.
    Fault(FaultKind),
    /// Refused; with the methods that would not be, for 405.
    Refuse(Refusal, Option<&'static str>),
}

/// What a target that means nothing is refused with.
pub(crate) const NOTHING: Refusal = refusal(404, "no such resource");
const BAD_TICKS: Refusal = refusal(400, "the query may have every_ms=NUMBER, 10 to 60000, and count=NUMBER, not 0");
const BAD_N: Refusal = refusal(400, "the query must be n=NUMBER, and within bounds");

/// What a request asks for. `HEAD` is what `GET` is; the reply knows the difference.
pub(crate) fn route<'a>(method: &str, target: &'a str) -> Action<'a> {
    let known = ["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"];
    if !known.contains(&method) {
        return Action::Refuse(refusal(501, "unknown method"), None);
    }
    let Some((path, query)) = path_and_query(target) else {
        return Action::Refuse(refusal(400, "the target is neither a path nor an http URI"), None);
    };
    let get = matches!(method, "GET" | "HEAD");
    let other = |allow| Action::Refuse(refusal(405, "this resource has no such method"), Some(allow));
    if let Some(key) = path.strip_prefix("/kv/") {
        return match (key.len(), method) {
            (0, _) | (KEY_MAX.., _) if key.len() != KEY_MAX => {
                Action::Refuse(refusal(400, "a key has 1 to 255 bytes"), None)
            }
            _ if get => Action::GetValue(key.as_bytes()),
            (_, "PUT") => Action::PutValue(key.as_bytes()),
            (_, "DELETE") => Action::DeleteValue(key.as_bytes()),
            _ => other("GET, HEAD, PUT, DELETE"),
        };
    }
    match (path, method) {
        ("/counter", "POST") => Action::Count,
        ("/counter", _) => other("POST"),
        ("/bytes", "PUT") => Action::TakeBytes,
        ("/bytes", _) if get => match number(query).filter(|n| *n <= BODY_MAX) {
            Some(n) => Action::SendBytes(n),
            None => Action::Refuse(BAD_N, None),
        },
        ("/bytes", _) => other("GET, HEAD, PUT"),
        ("/dirty", "POST") => match number(query).and_then(|n| usize::try_from(n).ok()).filter(|n| *n <= DIRTY_MAX) {
            Some(n) => Action::Dirty(n),
            None => Action::Refuse(BAD_N, None),
        },
        ("/dirty", _) => other("POST"),
        ("/session", _) if get => Action::Describe,
        ("/session", _) => other("GET, HEAD"),
        ("/events", _) if get => Ticks::of_query(query).map_or(Action::Refuse(BAD_TICKS, None), Action::Tick),
        ("/events", _) => other("GET, HEAD"),
        ("/fault", "POST") => FaultKind::of_query(query).map_or(Action::Refuse(NOTHING, None), Action::Fault),
        _ => Action::Refuse(NOTHING, None),
    }
}

/// Path and query of a target in origin or absolute form (RFC 9112, section 3.2).
fn path_and_query(target: &str) -> Option<(&str, &str)> {
    let origin = if target.starts_with('/') {
        target
    } else {
        let rest = target.get(..7).filter(|s| s.eq_ignore_ascii_case("http://")).and_then(|_| target.get(7..))?;
        rest.find('/').map_or("/", |at| &rest[at..])
    };
    let origin = origin.split('#').next().unwrap_or(origin);
    Some(origin.split_once('?').unwrap_or((origin, "")))
}

fn number(query: &str) -> Option<u64> {
    decimal(query.strip_prefix("n=")?.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let status = |m: &str, t: &str| match route(m, t) {
            Action::Refuse(r, _) => r.status,
            _ => 200,
        };
        for (method, target, want) in [
            ("GET", "/session", 200),
            ("HEAD", "/session", 200),
            ("POST", "/session", 405),
            ("GET", "http://host/session?x", 200),
            ("GET", "https://host/session", 400),
            ("GET", "*", 400),
            ("GET", "/", 404),
            ("BREW", "/", 501),
            ("OPTIONS", "/kv/a", 405),
            ("GET", "/kv/", 400),
            ("GET", "/bytes?n=1099511627776", 200),
            ("GET", "/bytes?n=1099511627777", 400),
            ("GET", "/bytes?n=", 400),
            ("GET", "/bytes", 400),
            ("POST", "/bytes", 405),
            ("POST", "/dirty?n=65536", 200),
            ("POST", "/dirty?n=65537", 400),
            ("GET", "/counter", 405),
            ("GET", "/events", 200),
            ("GET", "/events?count=3&every_ms=10", 200),
            ("GET", "/events?every_ms=1", 400),
            ("POST", "/events", 405),
            ("GET", "/fault?kind=panic", 404),
            ("POST", "/fault?kind=", 404),
        ] {
            assert_eq!(status(method, target), want, "{method} {target}");
        }
        let long = alloc::format!("/kv/{}", "k".repeat(255));
        assert_eq!(route("PUT", &long), Action::PutValue(&long.as_bytes()[4..]));
        assert_eq!(status("PUT", &alloc::format!("{long}k")), 400);
    }
}
