//! Reply heads and small replies.

use crate::chain::Link;
use crate::http::connection::Connection;
use crate::http::head::Refusal;
use crate::tcp::Pipe;
use crate::text::Text;

/// Room that every reply may need at once in the transmit ring: no request is taken up before there is that much.
pub(crate) const REPLY_ROOM: usize = 1024;
/// Bytes of a small reply's body.
pub(crate) const SMALL: usize = 400;

/// What a reply is, beside its body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReplyHead {
    pub status: u16,
    pub content_type: &'static str,
    /// Bytes of the body; `None`: they come in chunks.
    pub length: Option<u64>,
    pub allow: Option<&'static str>,
    pub connection: Connection,
    pub requests: u64,
    pub chain: Link,
    pub token: u64,
    pub previous_token: u64,
}

pub(crate) const JSON: &str = "application/json";
pub(crate) const BYTES: &str = "application/octet-stream";
pub(crate) const JSON_LINES: &str = "application/jsonl";
pub(crate) const TEXT: &str = "text/plain";

impl ReplyHead {
    /// Writes the head, and the body if it is given here.
    pub(crate) fn write(&self, pipe: &mut Pipe<'_>, body: &[u8]) {
        let mut t = Text::<REPLY_ROOM>::new();
        t.str("HTTP/1.1 ").dec(u64::from(self.status)).str(" ").str(reason(self.status));
        if self.status != 204 {
            t.str("\r\nContent-Type: ").str(self.content_type);
            match self.length {
                Some(length) => t.str("\r\nContent-Length: ").dec(length),
                None => t.str("\r\nTransfer-Encoding: chunked"),
            };
        }
        t.str("\r\nX-Requests: ").dec(self.requests).str("\r\nX-Chain: ").hex(&self.chain);
        t.str("\r\nX-Token: ").hex(&self.token.to_be_bytes());
        t.str("\r\nX-Previous-Token: ").hex(&self.previous_token.to_be_bytes());
        if let Some(allow) = self.allow {
            t.str("\r\nAllow: ").str(allow);
        }
        t.str(self.connection.field()).str("\r\n\r\n").raw(body);
        pipe.write(t.as_bytes());
    }
}

/// The JSON body that explains a refusal.
pub(crate) fn refusal_body(r: Refusal) -> Text<SMALL> {
    let mut t = Text::new();
    t.str("{\"status\":").dec(u64::from(r.status)).str(",\"error\":\"").str(r.cause).str("\"}\n");
    t
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "Internal Server Error",
    }
}
