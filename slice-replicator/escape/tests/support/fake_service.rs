//! A session service on loopback, one thread per connection.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::misbehaviour::Misbehaviour;

/// Delay of every reply: keeps requests in flight.
const REPLY_DELAY: Duration = Duration::from_millis(3);
const NODES: u64 = 3;

/// State shared by all connections and the fake cell.
pub struct Shared {
    pub stop: AtomicBool,
    /// The node that has failed; 0: none.
    pub failed: AtomicU16,
    /// Until when connections of the failed node are not served.
    pub outage_until: Mutex<Instant>,
    pub misbehaviour: Misbehaviour,
    /// Set with the fault; the first connection that can takes it and misbehaves.
    pub misbehave_now: AtomicBool,
    /// The node whose connections are never served again; 0: none.
    pub lost: AtomicU16,
    /// Until when no connection is served.
    pub stall_until: Mutex<Instant>,
    /// Every client and its node.
    pub clients: Mutex<Vec<(SocketAddr, u16)>>,
    /// Whether connections of the failed node say afterwards that another one serves them.
    pub moves: bool,
    connections: AtomicU64,
}

/// The running service.
pub struct FakeService {
    pub shared: Arc<Shared>,
    pub http: SocketAddr,
    pub stream: SocketAddr,
    acceptors: Vec<JoinHandle<()>>,
}

impl FakeService {
    pub fn start(misbehaviour: Misbehaviour, moves: bool) -> Self {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            failed: AtomicU16::new(0),
            outage_until: Mutex::new(Instant::now()),
            misbehaviour,
            misbehave_now: AtomicBool::new(false),
            lost: AtomicU16::new(0),
            stall_until: Mutex::new(Instant::now()),
            clients: Mutex::new(Vec::new()),
            moves,
            connections: AtomicU64::new(0),
        });
        let (http, http_acceptor) = accept(&shared, serve_http);
        let (stream, stream_acceptor) = accept(&shared, serve_stream);
        Self { shared, http, stream, acceptors: vec![http_acceptor, stream_acceptor] }
    }

    pub fn stop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        for acceptor in self.acceptors.drain(..) {
            acceptor.join().unwrap();
        }
    }
}

type Serve = fn(&Shared, u64, TcpStream) -> std::io::Result<()>;

fn accept(shared: &Arc<Shared>, serve: Serve) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let shared = Arc::clone(shared);
    let acceptor = thread::spawn(move || {
        let mut served = Vec::new();
        while !shared.stop.load(SeqCst) {
            match listener.accept() {
                Ok((socket, client)) => {
                    let shared = Arc::clone(&shared);
                    let number = shared.connections.fetch_add(1, SeqCst);
                    shared.clients.lock().unwrap().push((client, (number % NODES) as u16 + 1));
                    served.push(thread::spawn(move || {
                        socket.set_nonblocking(false).unwrap();
                        socket.set_nodelay(true).unwrap();
                        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
                        // A client that is gone ends its connection's thread, that is all.
                        let _ = serve(&shared, number, socket);
                    }));
                }
                Err(_) => thread::sleep(Duration::from_millis(1)),
            }
        }
        served.into_iter().for_each(|thread| thread.join().unwrap());
    });
    (address, acceptor)
}

impl Shared {
    /// Whether this connection is the one that misbehaves now.
    fn take_misbehaviour(&self, kinds: &[Misbehaviour]) -> Misbehaviour {
        if kinds.contains(&self.misbehaviour) && self.misbehave_now.swap(false, SeqCst) {
            return self.misbehaviour;
        }
        Misbehaviour::None
    }

    fn node_of(&self, connection: u64) -> u16 {
        let node = (connection % NODES) as u16 + 1;
        let failed = self.failed.load(SeqCst);
        if self.moves && node == failed { node % NODES as u16 + 1 } else { node }
    }

    fn wait_while_out(&self, connection: u64) {
        let stall_until = *self.stall_until.lock().unwrap();
        thread::sleep(stall_until.saturating_duration_since(Instant::now()));
        while (connection % NODES) as u16 + 1 == self.lost.load(SeqCst) && !self.stop.load(SeqCst) {
            thread::sleep(Duration::from_millis(5));
        }
        if (connection % NODES) as u16 + 1 == self.failed.load(SeqCst) {
            let until = *self.outage_until.lock().unwrap();
            thread::sleep(until.saturating_duration_since(Instant::now()));
        }
    }

    /// One read; `None`: the client ended.
    fn read(&self, socket: &mut TcpStream, buffer: &mut [u8]) -> std::io::Result<Option<usize>> {
        match socket.read(buffer) {
            Ok(0) => Ok(None),
            Ok(count) => Ok(Some(count)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if self.stop.load(SeqCst) { Ok(None) } else { Ok(Some(0)) }
            }
            Err(error) => Err(error),
        }
    }
}

#[derive(Clone, Default)]
struct Session {
    requests: u64,
    chain: [u8; 32],
    counter: u64,
    values: HashMap<String, Vec<u8>>,
}

struct Parsed {
    method: String,
    target: String,
    body: Vec<u8>,
}

fn pattern(offset: u64) -> u8 {
    (offset.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 47) as u8
}

fn serve_http(shared: &Shared, connection: u64, mut socket: TcpStream) -> std::io::Result<()> {
    use Misbehaviour::*;
    let (mut session, mut past, mut input) = (Session::default(), Vec::new(), Vec::new());
    let mut buffer = [0; 4096];
    loop {
        let Some(count) = shared.read(&mut socket, &mut buffer)? else { return Ok(()) };
        input.extend_from_slice(&buffer[..count]);
        while let Some(request) = take_request(&mut input) {
            thread::sleep(REPLY_DELAY);
            shared.wait_while_out(connection);
            past.push(session.clone());
            let simple = [DropRequest, SwallowReply, RepeatReply, ExecuteTwice, WrongChain, Reset, Close];
            let mut wrong = shared.take_misbehaviour(&simple);
            if past.len() > 5 && wrong == None {
                wrong = shared.take_misbehaviour(&[RollBack]);
            }
            // Only where every byte of the body is fixed by the protocol.
            if request.target == "/counter" || request.target.starts_with("/bytes") {
                wrong = if wrong == None { shared.take_misbehaviour(&[WrongByte]) } else { wrong };
            }
            match wrong {
                DropRequest => continue,
                Reset => return reset(socket),
                Close => return Ok(()),
                RollBack => session = past[past.len() - 4].clone(),
                ExecuteTwice => drop(session.execute(shared, connection, &request)),
                _ => {}
            }
            let mut reply = session.execute(shared, connection, &request);
            match wrong {
                SwallowReply => continue,
                WrongByte => *reply.last_mut().unwrap() ^= 1,
                WrongChain => flip_chain(&mut reply),
                RepeatReply => reply.extend_from_within(..),
                _ => {}
            }
            socket.write_all(&reply)?;
        }
    }
}

fn flip_chain(reply: &mut [u8]) {
    let at = reply.windows(9).position(|window| window == b"X-Chain: ").unwrap() + 9;
    reply[at] = if reply[at] == b'0' { b'1' } else { b'0' };
}

/// Closes with unread bytes and no lingering: the client gets an RST.
fn reset(socket: TcpStream) -> std::io::Result<()> {
    let socket = socket2::Socket::from(socket);
    socket.set_linger(Some(Duration::ZERO))
}

fn take_request(input: &mut Vec<u8>) -> Option<Parsed> {
    let head = input.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = String::from_utf8(input[..head].to_vec()).unwrap();
    let mut first = text.lines().next().unwrap().split(' ');
    let length = text.lines().find_map(|line| line.strip_prefix("Content-Length: ")).map_or(0, |n| n.parse().unwrap());
    let body = input.get(head..head + length)?.to_vec();
    let (method, target) = (first.next().unwrap().to_owned(), first.next().unwrap().to_owned());
    input.drain(..head + length);
    Some(Parsed { method, target, body })
}

impl Session {
    fn execute(&mut self, shared: &Shared, connection: u64, request: &Parsed) -> Vec<u8> {
        self.requests += 1;
        let mut link = self.chain.to_vec();
        link.extend_from_slice(format!("{} {} ", request.method, request.target).as_bytes());
        link.extend_from_slice(blake3::hash(&request.body).as_bytes());
        self.chain = *blake3::hash(&link).as_bytes();
        let (path, n) = request.target.split_once("?n=").unwrap_or((&request.target, "0"));
        let n: u64 = n.parse().unwrap();
        let (status, body) = match (request.method.as_str(), path) {
            ("POST", "/counter") => {
                self.counter += 1;
                ("200 OK", self.counter.to_string().into_bytes())
            }
            ("GET", "/bytes") => ("200 OK", (0..n).map(pattern).collect()),
            ("POST", "/dirty") => ("200 OK", b"{}".to_vec()),
            ("GET", "/session") => {
                let node = shared.node_of(connection);
                ("200 OK", format!(r#"{{"slice":"{connection}:1","node":{node}}}"#).into_bytes())
            }
            ("PUT", key) => {
                self.values.insert(key.to_owned(), request.body.clone());
                ("201 Created", b"stored".to_vec())
            }
            ("DELETE", key) => {
                self.values.remove(key);
                ("200 OK", b"gone".to_vec())
            }
            ("GET", key) => match self.values.get(key) {
                Some(value) => ("200 OK", value.clone()),
                None => ("404 Not Found", b"no such key".to_vec()),
            },
            other => panic!("unexpected request {other:?}"),
        };
        let chain: String = self.chain.iter().map(|byte| format!("{byte:02x}")).collect();
        let (length, requests) = (body.len(), self.requests);
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nX-Requests: {requests}\r\nX-Chain: {chain}\r\n\r\n"
        );
        [head.into_bytes(), body].concat()
    }
}

/// Sends as many pattern bytes as it receives, a trailer at the end.
fn serve_stream(shared: &Shared, connection: u64, mut socket: TcpStream) -> std::io::Result<()> {
    use Misbehaviour::*;
    let (mut received, mut wrong) = (0u64, 0u64);
    let mut buffer = [0; 4096];
    while let Some(count) = shared.read(&mut socket, &mut buffer)? {
        shared.wait_while_out(connection);
        let offsets = received..received + count as u64;
        wrong += offsets.clone().zip(&buffer[..count]).filter(|&(at, &byte)| byte != pattern(at)).count() as u64;
        received += count as u64;
        let mut bytes: Vec<u8> = offsets.map(pattern).collect();
        if count > 0 && shared.take_misbehaviour(&[StreamWrongByte]) == StreamWrongByte {
            bytes[0] ^= 0x80;
        }
        socket.write_all(&bytes)?;
    }
    let short = u64::from(shared.take_misbehaviour(&[StreamShortTrailer]) == StreamShortTrailer);
    socket.write_all(&[(received - short).to_le_bytes(), wrong.to_le_bytes()].concat())
}
