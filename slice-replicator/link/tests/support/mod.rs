//! Both ends of a link in one thread and one poll, and a peer that breaks the rules.
#![allow(dead_code, clippy::unwrap_used)]

use escape_link::pki::{ClusterAuthority, ClusterSecrets};
use escape_link::{Identity, Link, LinkError, LinkLimits, Listener, ListenerLimits, RoleSet};
use escape_proto::{Hello, Incarnation, NodeId, PROTOCOL_VERSION, Role};
use mio::{Events, Poll, Token};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// No test waits longer for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);
const CALLER: Token = Token(1);
const ANSWERER: Token = Token(2);
const LISTENER: Token = Token(100);

pub fn node(n: u16) -> Role {
    Role::Node(NodeId(n))
}

pub fn hello(from: Role) -> Hello {
    Hello { version: PROTOCOL_VERSION, cluster: [7; 16], from, inc: Incarnation(5), expect: Incarnation(0), channel: 0 }
}

pub fn any_address() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

pub fn all_roles() -> RoleSet {
    RoleSet { nodes: true, orchestrator: true, edge: true, operators: true }
}

/// An orchestrator's listener, a caller if there is one, and what came of both.
pub struct Pair {
    pub poll: Poll,
    events: Events,
    pub listener: Listener,
    pub caller: Option<Link>,
    pub answerer: Option<Link>,
    pub caller_errors: Vec<LinkError>,
    pub answerer_errors: Vec<LinkError>,
}

impl Pair {
    pub fn new(answering: &Identity, own: Hello, admits: RoleSet, limits: ListenerLimits) -> Self {
        let poll = Poll::new().unwrap();
        let mut listener = Listener::bind(any_address(), answering, own, admits, limits, Instant::now()).unwrap();
        listener.register(poll.registry(), LISTENER).unwrap();
        let events = Events::with_capacity(64);
        let (caller, answerer) = (None, None);
        Self { poll, events, listener, caller, answerer, caller_errors: Vec::new(), answerer_errors: Vec::new() }
    }

    pub fn call(&mut self, identity: &Identity, wanted: Role, hello: Hello, limits: LinkLimits) {
        self.call_at(self.listener.local_addr(), identity, wanted, hello, limits);
    }

    pub fn call_at(&mut self, at: SocketAddr, identity: &Identity, wanted: Role, hello: Hello, limits: LinkLimits) {
        let mut link = Link::connect(at, identity, wanted, hello, limits, Instant::now()).unwrap();
        link.register(self.poll.registry(), CALLER).unwrap();
        self.caller = Some(link);
    }

    /// An open pair between node 1 (caller) and the orchestrator.
    pub fn open(limits: LinkLimits) -> Self {
        let authority = ClusterAuthority::new("cell-a").unwrap();
        let own = authority.issue(Role::Orchestrator).unwrap().identity().unwrap();
        let calling = authority.issue(node(1)).unwrap().identity().unwrap();
        let listener_limits = ListenerLimits { link: limits, ..ListenerLimits::default() };
        let mut pair = Self::new(&own, hello(Role::Orchestrator), all_roles(), listener_limits);
        pair.call(&calling, Role::Orchestrator, hello(node(1)), limits);
        pair.until("both ends open", Self::both_open);
        pair
    }

    pub fn both_open(&mut self) -> bool {
        self.caller.as_ref().is_some_and(Link::is_open) && self.answerer.as_ref().is_some_and(Link::is_open)
    }

    /// One loop turn of at most 10 ms.
    pub fn turn(&mut self) {
        self.poll.poll(&mut self.events, Some(Duration::from_millis(10))).unwrap();
        let now = Instant::now();
        for event in &self.events {
            match event.token() {
                CALLER => {
                    let result = self.caller.as_mut().map(|link| link.on_event(event));
                    self.caller_errors.extend(result.and_then(Result::err));
                }
                ANSWERER => {
                    let result = self.answerer.as_mut().map(|link| link.on_event(event));
                    self.answerer_errors.extend(result.and_then(Result::err));
                }
                _ => self.listener.on_event(self.poll.registry(), event, now),
            }
        }
        self.listener.on_time(self.poll.registry(), now);
        if let Some(link) = &mut self.caller {
            self.caller_errors.extend(link.check_time(now).err());
        }
        while let Some(mut link) = self.listener.next_link() {
            link.register(self.poll.registry(), ANSWERER).unwrap();
            self.answerer = Some(link);
        }
    }

    /// Turns until `done`; panics with `what` when that takes too long.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let start = Instant::now();
        while !done(self) {
            let errors = (&self.caller_errors, &self.answerer_errors);
            assert!(start.elapsed() < PATIENCE, "waited too long: {what}; {errors:?} {:?}", self.listener.counters());
            self.turn();
        }
    }

    /// One small message from the caller to the answerer: the link works.
    pub fn exchange(&mut self) {
        self.caller.as_mut().unwrap().send(&7777u32).unwrap();
        self.caller.as_mut().unwrap().flush().unwrap();
        self.until("a message", |pair| {
            let got: Option<u32> = pair.answerer.as_mut().unwrap().next_message().unwrap();
            got.inspect(|n| assert_eq!(*n, 7777)).is_some()
        });
    }
}

/// A blocking TLS client that says whatever a test wants.
pub fn raw_client(
    secrets: &ClusterSecrets,
    name: &str,
    addr: SocketAddr,
) -> rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(secrets.authority.as_bytes()).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![CertificateDer::from_pem_slice(secrets.certificate.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(secrets.key.as_bytes()).unwrap(),
        )
        .unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let socket = TcpStream::connect(addr).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    rustls::StreamOwned::new(rustls::ClientConnection::new(Arc::new(config), name).unwrap(), socket)
}

/// A frame as the link frames it.
pub fn framed(body: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
    out.extend_from_slice(body);
    out
}

/// SplitMix64: the same numbers for the same seed.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    pub fn below(&mut self, n: u64) -> usize {
        usize::try_from(self.next() % n).unwrap()
    }
}
