//! HTTP from the client's side: replies taken apart, and a session that checks everything.

use super::{App, Rng};
use escape_session::{chain, pattern};
use std::collections::{BTreeMap, VecDeque};

#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
    pub requests: u64,
    pub chain: String,
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

impl Reply {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|l| {
            let (n, v) = l.split_once(':')?;
            n.eq_ignore_ascii_case(name).then(|| v.trim())
        })
    }

    /// Takes one whole reply off the front of `bytes`.
    pub fn take(bytes: &mut Vec<u8>, head_request: bool) -> Option<Self> {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status: u16 = head.get(9..12).and_then(|s| s.parse().ok()).unwrap_or_else(|| panic!("{head:?}"));
        if status == 100 {
            bytes.drain(..end);
            return Self::take(bytes, head_request);
        }
        let mut reply = Self { status, head, body: vec![], requests: 0, chain: String::new() };
        let length =
            if head_request || status == 204 { 0 } else { reply.field("content-length").unwrap().parse().unwrap() };
        if bytes.len() < end + length {
            return None;
        }
        reply.requests = reply.field("x-requests").unwrap().parse().unwrap();
        reply.chain = reply.field("x-chain").unwrap().to_owned();
        reply.body = bytes[end..end + length].to_vec();
        bytes.drain(..end + length);
        Some(reply)
    }
}

/// What a request must be answered with.
struct Want {
    method: &'static str,
    status: u16,
    body: Option<Vec<u8>>,
    requests: u64,
    chain: String,
}

/// A session that sends random requests, pipelined, and checks every byte that comes back.
pub struct Checked {
    rng: Rng,
    left: u32,
    pipeline: usize,
    waiting: VecDeque<Want>,
    requests: u64,
    chain: chain::Link,
    counter: u64,
    values: BTreeMap<String, Vec<u8>>,
    /// Others are at work on the same session: keys begin with this, and what all share is not compared.
    shares: Option<String>,
    pub close_by_header: bool,
    pub finished: bool,
}

impl Checked {
    pub fn new(seed: u64, requests: u32) -> Self {
        let mut rng = Rng(seed);
        let (pipeline, close_by_header) = (1 + rng.below(6) as usize, rng.chance(50));
        Self {
            rng,
            left: requests,
            pipeline,
            waiting: VecDeque::new(),
            requests: 0,
            chain: chain::START,
            counter: 0,
            values: BTreeMap::new(),
            shares: None,
            close_by_header,
            finished: false,
        }
    }

    /// One of several connections of a session, told from the others by `name`.
    pub fn sharing(seed: u64, requests: u32, name: &str) -> Self {
        Self { shares: Some(name.to_owned()), ..Self::new(seed, requests) }
    }

    fn request(&mut self, out: &mut VecDeque<u8>) {
        self.left -= 1;
        // The heap must have room for all of them.
        let keys = if self.shares.is_some() { 4 } else { 12 };
        let key = format!("{}{}", self.shares.as_deref().unwrap_or("k"), self.rng.below(keys));
        let random = self.rng.below(60_000) as usize;
        let body: Vec<u8> = (0..random as u64 % 3000).map(|i| pattern::pattern(i + random as u64)).collect();
        let (method, target, body, status, want) = match self.rng.below(12) {
            0 | 1 => {
                self.counter += 1;
                let count = self.shares.is_none().then(|| format!("{}\n", self.counter).into_bytes());
                ("POST", "/counter".to_owned(), vec![], 200, count)
            }
            2 | 3 => {
                let new = self.values.insert(key.clone(), body.clone()).is_none();
                ("PUT", format!("/kv/{key}"), body, if new { 201 } else { 204 }, Some(vec![]))
            }
            4 | 5 => match self.values.get(&key) {
                Some(v) => ("GET", format!("/kv/{key}"), vec![], 200, Some(v.clone())),
                None => ("GET", format!("/kv/{key}"), vec![], 404, None),
            },
            6 => {
                let there = self.values.remove(&key).is_some();
                ("DELETE", format!("/kv/{key}"), vec![], if there { 204 } else { 404 }, None)
            }
            7 => {
                let mut bytes = vec![0; random];
                pattern::fill(&mut bytes, 0);
                ("GET", format!("/bytes?n={random}"), vec![], 200, Some(bytes))
            }
            8 | 9 => {
                let mut bytes = vec![0; random];
                pattern::fill(&mut bytes, 0);
                let hash = hex(&chain::hash(&bytes));
                let want = format!("{{\"bytes\":{random},\"wrong\":0,\"blake3\":\"{hash}\"}}\n").into_bytes();
                ("PUT", "/bytes".to_owned(), bytes, 200, Some(want))
            }
            10 if self.shares.is_some() => ("POST", format!("/dirty?n={}", random % 4000), vec![], 200, None),
            10 => ("POST", format!("/dirty?n={random}"), vec![], 200, None),
            _ => ("GET", "/session".to_owned(), vec![], 200, None),
        };
        let last = self.left == 0 && self.close_by_header;
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: test\r\n");
        if last {
            head.push_str("Connection: close\r\n");
        }
        let chunked = !body.is_empty() && self.rng.chance(40);
        if chunked {
            head.push_str("Transfer-Encoding: chunked\r\n\r\n");
            out.extend(head.bytes());
            for chunk in body.chunks(1 + self.rng.below(2000) as usize) {
                out.extend(format!("{:x}\r\n", chunk.len()).bytes());
                out.extend(chunk);
                out.extend(b"\r\n");
            }
            out.extend(b"0\r\n\r\n");
        } else {
            if method == "PUT" || !body.is_empty() {
                head.push_str(&format!("Content-Length: {}\r\n", body.len()));
            }
            out.extend(head.bytes());
            out.extend(b"\r\n");
            out.extend(&body);
        }
        self.requests += 1;
        self.chain = chain::next(&self.chain, method.as_bytes(), target.as_bytes(), &chain::hash(&body));
        let chain = hex(&self.chain);
        self.waiting.push_back(Want { method, status, body: want, requests: self.requests, chain });
    }
}

impl App for Checked {
    fn work(&mut self, incoming: &mut Vec<u8>, outgoing: &mut VecDeque<u8>, ended: bool) -> bool {
        while let Some(want) = self.waiting.front() {
            let Some(reply) = Reply::take(incoming, want.method == "HEAD") else { break };
            assert_eq!(reply.status, want.status, "{}", reply.head);
            if self.shares.is_none() {
                assert_eq!((reply.requests, &reply.chain), (want.requests, &want.chain), "{}", reply.head);
            }
            assert!(reply.requests >= want.requests, "{}", reply.head);
            if let Some(body) = &want.body {
                assert!(reply.body == *body, "{}: body differs ({} bytes)", reply.head, reply.body.len());
            }
            self.waiting.pop_front();
        }
        while self.left > 0 && self.waiting.len() < self.pipeline && outgoing.len() < 100_000 {
            self.request(outgoing);
        }
        let all = self.left == 0 && self.waiting.is_empty();
        if ended && !self.finished {
            assert!(all, "ended with {} replies missing", self.waiting.len());
            assert!(incoming.is_empty(), "{} bytes too many", incoming.len());
            self.finished = true;
        }
        all && !self.close_by_header || ended
    }
    fn done(&self) -> bool {
        self.finished
    }
}

/// The stream port: so many bytes up, whatever comes down.
pub struct Stream {
    pub up_left: u64,
    pub sent: u64,
    pub received: u64,
    tail: Vec<u8>,
    pub finished: bool,
}

impl Stream {
    pub fn new(bytes: u64) -> Self {
        Self { up_left: bytes, sent: 0, received: 0, tail: vec![], finished: false }
    }
}

impl App for Stream {
    fn work(&mut self, incoming: &mut Vec<u8>, outgoing: &mut VecDeque<u8>, ended: bool) -> bool {
        while self.up_left > 0 && outgoing.len() < 4000 {
            outgoing.push_back(pattern::pattern(self.sent));
            self.sent += 1;
            self.up_left -= 1;
        }
        self.tail.append(incoming);
        let body = self.tail.len().saturating_sub(16);
        assert_eq!(pattern::count_wrong(&self.tail[..body], self.received), 0, "at {}", self.received);
        self.received += body as u64;
        self.tail.drain(..body);
        if ended && !self.finished {
            let trailer: Vec<u8> = [self.sent.to_le_bytes(), 0u64.to_le_bytes()].concat();
            assert_eq!(self.tail, trailer, "after {} bytes, {} sent, {} left", self.received, self.sent, self.up_left);
            self.finished = true;
        }
        self.up_left == 0
    }
    fn done(&self) -> bool {
        self.finished
    }
}
