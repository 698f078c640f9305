//! One connection.

use crate::error::{HelloFault, LinkError, LinkFault, Remote};
use crate::frame_queue::FrameQueue;
use crate::frame_reader::FrameReader;
use crate::greeting::{HELLO_BYTES_MAX, RoleSet, check_hello, check_welcome, tame};
use crate::identity::Identity;
use crate::limits::LinkLimits;
use crate::link_counters::LinkCounters;
use crate::peer::Peer;
use crate::tls_stream::{Filled, TlsStream};
use escape_proto::{FRAME_MAX, Hello, HelloReply, Role, decode};
use mio::event::{Event, Source};
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::{ClientConnection, ServerConnection};
use serde::{Serialize, de::DeserializeOwned};
use socket2::{SockRef, TcpKeepalive};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Which end this is.
enum Side {
    Caller { wanted: Role, own: Hello },
    Answerer { own: Hello, admits: RoleSet },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The TCP connection is being made.
    Connecting,
    /// TLS handshake and hello.
    Greeting,
    /// Messages pass.
    Open,
    /// Ended, and reported.
    Dead,
}

/// One authenticated connection, driven by the caller's poll loop.
///
/// An error that ends the link is returned exactly once, by whichever call met it. Afterwards `on_event`, `flush` and
/// `recv` are quiet and `send` says [`LinkFault::NotOpen`]. Dropping a link says farewell to the peer.
pub struct Link {
    stream: TlsStream,
    frames: FrameReader,
    queue: FrameQueue,
    /// Bytes given to TLS that the socket has not taken.
    sealed: usize,
    side: Side,
    phase: Phase,
    identity: Identity,
    remote: Remote,
    peer: Option<Peer>,
    limits: LinkLimits,
    deadline: Instant,
    counters: LinkCounters,
}

impl Link {
    /// Begins a connection to the process of role `wanted` at `addr`. `hello` is this end's: its `from` must be the
    /// identity's role. Register the link with a poll and drive it; [`Self::is_open`] says when messages may be sent.
    ///
    /// # Errors
    /// [`LinkFault::Connect`] if not even a socket can be had.
    pub fn connect(
        addr: SocketAddr,
        identity: &Identity,
        wanted: Role,
        hello: Hello,
        limits: LinkLimits,
        now: Instant,
    ) -> Result<Self, LinkError> {
        let remote = Remote { addr, role: Some(wanted) };
        let fail = |fault| LinkError { remote, fault };
        if hello.from != identity.role() {
            return Err(fail(HelloFault::Role { claimed: hello.from }.into()));
        }
        let socket = TcpStream::connect(addr).map_err(|e| fail(LinkFault::Connect(e)))?;
        set_options(&socket, &limits).map_err(|e| fail(LinkFault::Connect(e)))?;
        let name = identity.name_of(wanted).map_err(|e| fail(e.into()))?;
        let tls = ClientConnection::new(identity.client_config(), name).map_err(|e| fail(e.into()))?;
        let mut link = Self::new(
            TlsStream::new(socket, tls.into()),
            identity,
            remote,
            limits,
            now,
            Side::Caller { wanted, own: hello.clone() },
        );
        link.phase = Phase::Connecting;
        link.queue.stage(&hello, 0).map_err(fail)?;
        Ok(link)
    }

    /// The answering end of a connection just accepted.
    pub(crate) fn accept(
        socket: TcpStream,
        addr: SocketAddr,
        identity: &Identity,
        own: Hello,
        admits: RoleSet,
        limits: LinkLimits,
        now: Instant,
    ) -> Result<Self, LinkError> {
        let remote = Remote { addr, role: None };
        let fail = |fault| LinkError { remote, fault };
        set_options(&socket, &limits).map_err(|e| fail(LinkFault::Socket(e)))?;
        let tls = ServerConnection::new(identity.server_config()).map_err(|e| fail(e.into()))?;
        let side = Side::Answerer { own, admits };
        Ok(Self::new(TlsStream::new(socket, tls.into()), identity, remote, limits, now, side))
    }

    fn new(
        stream: TlsStream,
        identity: &Identity,
        remote: Remote,
        limits: LinkLimits,
        now: Instant,
        side: Side,
    ) -> Self {
        Self {
            stream,
            frames: FrameReader::default(),
            queue: FrameQueue::new(limits.outgoing_bound()),
            sealed: 0,
            side,
            phase: Phase::Greeting,
            identity: identity.clone(),
            remote,
            peer: None,
            limits,
            deadline: now + limits.handshake_max,
            counters: LinkCounters::default(),
        }
    }

    /// The socket, for a poll's registry. [`Self::register`] is shorter.
    pub fn source(&mut self) -> &mut TcpStream {
        &mut self.stream.socket
    }

    /// Registers for everything that the link needs to know.
    ///
    /// # Errors
    /// What the registry says.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.stream.socket, token, Interest::READABLE | Interest::WRITABLE)
    }

    /// Ends the registration, for a link that goes to another poll.
    ///
    /// # Errors
    /// What the registry says.
    pub fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        registry.deregister(&mut self.stream.socket)
    }

    /// The other end's address and role as far as they are known.
    pub const fn remote(&self) -> Remote {
        self.remote
    }

    /// The other end, once the link is open.
    pub const fn peer(&self) -> Option<&Peer> {
        self.peer.as_ref()
    }

    /// Messages may be sent and received.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// The link has ended and that was reported.
    pub fn is_dead(&self) -> bool {
        self.phase == Phase::Dead
    }

    /// Bytes staged that the socket has not taken yet.
    pub fn queued(&self) -> usize {
        self.queue.queued() + self.sealed
    }

    /// Traffic so far.
    pub const fn counters(&self) -> LinkCounters {
        self.counters
    }

    /// When [`Self::check_time`] wants to be called; `None` once the link is open.
    pub fn deadline(&self) -> Option<Instant> {
        matches!(self.phase, Phase::Connecting | Phase::Greeting).then_some(self.deadline)
    }

    /// Ends a link whose handshake takes too long.
    ///
    /// # Errors
    /// [`LinkFault::HandshakeTimeout`].
    pub fn check_time(&mut self, now: Instant) -> Result<(), LinkError> {
        if self.deadline().is_some_and(|deadline| now >= deadline) {
            let limit_ms = self.limits.handshake_max.as_millis();
            return Err(self.die(LinkFault::HandshakeTimeout { limit_ms }));
        }
        Ok(())
    }

    /// The poll has news of this link. Afterwards call [`Self::recv`] until it gives nothing.
    ///
    /// # Errors
    /// What ended the link.
    pub fn on_event(&mut self, event: &Event) -> Result<(), LinkError> {
        let ended = event.is_read_closed() || event.is_write_closed() || event.is_error();
        if event.is_readable() || ended {
            self.stream.set_readable(ended);
        }
        self.progress(event.is_writable())
    }

    /// The same without an event, for callers that poll the socket themselves.
    ///
    /// # Errors
    /// What ended the link.
    pub fn on_ready(&mut self, readable: bool, writable: bool) -> Result<(), LinkError> {
        if readable {
            self.stream.set_readable(true);
        }
        self.progress(writable)
    }

    /// The next frame, if one has arrived whole. It is valid until the next call. A link that has just become open may
    /// hold frames already: call this until it gives nothing, no event will announce them again.
    ///
    /// # Errors
    /// What ended the link; frames that came before the end are handed out first.
    pub fn recv(&mut self) -> Result<Option<&[u8]>, LinkError> {
        if self.phase != Phase::Open {
            return Ok(None);
        }
        match self.next_frame(FRAME_MAX) {
            Ok(None) => Ok(None),
            Ok(Some(range)) => {
                self.counters.messages_in += 1;
                self.counters.bytes_in += range.len() as u64;
                Ok(Some(self.frames.bytes(range)))
            }
            Err(fault) => Err(self.die(fault)),
        }
    }

    /// The next message, decoded.
    ///
    /// # Errors
    /// What ended the link; a frame that is not a `T` ends it.
    pub fn next_message<T: DeserializeOwned>(&mut self) -> Result<Option<T>, LinkError> {
        let decoded = match self.recv()? {
            None => return Ok(None),
            Some(frame) => decode(frame),
        };
        decoded.map(Some).map_err(|e| self.refuse(e.into()))
    }

    /// Ends the link because of what the peer sent (a frame that the caller could not decode or must not get).
    pub fn refuse(&mut self, fault: LinkFault) -> LinkError {
        self.die(fault)
    }

    /// Stages a message; [`Self::flush`] sends it.
    ///
    /// # Errors
    /// [`LinkFault::Congested`] (the link lives, the message was not staged), [`LinkFault::Unsendable`],
    /// [`LinkFault::NotOpen`].
    pub fn send<T: Serialize>(&mut self, message: &T) -> Result<(), LinkError> {
        self.check_open()?;
        let staged = self.queue.stage(message, self.sealed);
        self.count(staged)
    }

    /// Stages one frame made of parts that the caller has encoded.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn send_parts(&mut self, parts: &[&[u8]]) -> Result<(), LinkError> {
        self.check_open()?;
        let staged = self.queue.stage_parts(parts, self.sealed);
        self.count(staged)
    }

    /// Sends what was staged, as much as the socket takes. Call it once per loop turn: messages staged together share
    /// a TLS record and a system call. What does not fit goes out at later events.
    ///
    /// # Errors
    /// What ended the link.
    pub fn flush(&mut self) -> Result<(), LinkError> {
        if self.phase != Phase::Open || (self.sealed == 0 && self.queue.queued() == 0) {
            return Ok(());
        }
        self.push().map_err(|fault| self.die(fault))
    }

    /// Says farewell and ends the link; nothing is reported afterwards.
    pub fn close(&mut self) {
        if self.phase == Phase::Open {
            // What cannot leave at once is lost, as with any end of a link.
            let _ = self.push();
        }
        if self.phase != Phase::Dead {
            self.stream.end();
            self.phase = Phase::Dead;
        }
    }

    fn check_open(&self) -> Result<(), LinkError> {
        if self.phase == Phase::Open { Ok(()) } else { Err(self.error(LinkFault::NotOpen)) }
    }

    fn count(&mut self, staged: Result<usize, LinkFault>) -> Result<(), LinkError> {
        match staged {
            Ok(bytes) => {
                self.counters.messages_out += 1;
                self.counters.bytes_out += bytes as u64;
                Ok(())
            }
            Err(fault) => {
                self.counters.congested += u64::from(matches!(fault, LinkFault::Congested { .. }));
                Err(self.error(fault))
            }
        }
    }

    const fn error(&self, fault: LinkFault) -> LinkError {
        LinkError { remote: self.remote, fault }
    }

    pub(crate) fn die(&mut self, fault: LinkFault) -> LinkError {
        self.stream.end();
        self.phase = Phase::Dead;
        self.error(fault)
    }

    fn progress(&mut self, writable: bool) -> Result<(), LinkError> {
        let done = match self.phase {
            Phase::Dead => Ok(()),
            Phase::Open if writable => self.push(),
            Phase::Open => Ok(()),
            Phase::Connecting | Phase::Greeting => self.greet(),
        };
        done.map_err(|fault| self.die(fault))
    }

    /// TLS output, then staged frames, chunk by chunk, until the socket takes no more.
    fn push(&mut self) -> Result<(), LinkFault> {
        loop {
            if !self.stream.drain()? {
                return Ok(());
            }
            self.sealed = 0;
            let chunk = self.queue.chunk();
            if chunk.is_empty() || self.stream.is_handshaking() {
                return Ok(());
            }
            self.sealed = chunk.len();
            self.stream.seal(chunk)?;
            self.queue.advance(self.sealed);
        }
    }

    fn next_frame(&mut self, limit: usize) -> Result<Option<std::ops::Range<usize>>, LinkFault> {
        loop {
            if let Some(range) = self.frames.next(limit)? {
                return Ok(Some(range));
            }
            match self.stream.fill(&mut self.frames)? {
                Filled::Some => {}
                Filled::Nothing => return Ok(None),
                Filled::Farewell if self.frames.partial() == 0 => return Err(LinkFault::Closed),
                Filled::Farewell | Filled::End => {
                    return Err(LinkFault::Truncated { partial: self.frames.partial() });
                }
            }
        }
    }

    fn greet(&mut self) -> Result<(), LinkFault> {
        if self.phase == Phase::Connecting && !self.is_connected()? {
            return Ok(());
        }
        self.phase = Phase::Greeting;
        self.push()?;
        let Some(range) = self.next_frame(HELLO_BYTES_MAX)? else {
            // What was read may have made TLS output: the next flight, or the hello that waited for the handshake.
            return self.push();
        };
        let frame = self.frames.bytes(range);
        match &self.side {
            Side::Caller { wanted, own } => {
                let peer = self.check_reply(frame, *wanted, own)?;
                self.open(peer);
                Ok(())
            }
            Side::Answerer { own, admits } => match self.check_first(frame, own, *admits) {
                Ok(peer) => {
                    let welcome = HelloReply::Welcome(own.clone());
                    self.queue.stage(&welcome, 0)?;
                    self.open(peer);
                    self.push()
                }
                Err(fault) => {
                    if let LinkFault::HelloRefused(cause) = &fault {
                        self.queue.stage(&HelloReply::Refused { cause: cause.to_string() }, 0)?;
                        self.push()?;
                    }
                    Err(fault)
                }
            },
        }
    }

    fn open(&mut self, peer: Peer) {
        self.remote.role = Some(peer.role);
        self.peer = Some(peer);
        self.phase = Phase::Open;
        self.stream.set_open();
    }

    /// The answering end's checks: the certificate must speak for the role that the hello claims.
    fn check_first(&self, frame: &[u8], own: &Hello, admits: RoleSet) -> Result<Peer, LinkFault> {
        let hello: Hello = decode(frame)?;
        let certificate = self.stream.peer_certificate().ok_or(HelloFault::Role { claimed: hello.from })?;
        self.identity.speaks_for(certificate, hello.from).map_err(|_| HelloFault::Role { claimed: hello.from })?;
        check_hello(own, &hello, admits)?;
        Ok(Peer::new(&hello, hello.channel, self.remote.addr))
    }

    /// The calling end's checks; TLS has already compared the certificate with the role that was called.
    fn check_reply(&self, frame: &[u8], wanted: Role, own: &Hello) -> Result<Peer, LinkFault> {
        match decode(frame)? {
            HelloReply::Refused { cause } => Err(LinkFault::RefusedByPeer { cause: tame(&cause) }),
            HelloReply::Welcome(hello) => {
                check_welcome(own, wanted, &hello)?;
                Ok(Peer::new(&hello, own.channel, self.remote.addr))
            }
        }
    }

    fn is_connected(&self) -> Result<bool, LinkFault> {
        if let Some(error) = self.stream.socket.take_error().map_err(LinkFault::Connect)? {
            return Err(LinkFault::Connect(error));
        }
        match self.stream.socket.peer_addr() {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(e) => Err(LinkFault::Connect(e)),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("remote", &self.remote).field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl Source for Link {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.stream.socket.register(registry, token, interests)
    }
    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.stream.socket.reregister(registry, token, interests)
    }
    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.stream.socket.deregister(registry)
    }
}

fn set_options(socket: &TcpStream, limits: &LinkLimits) -> io::Result<()> {
    let second = Duration::from_secs(1);
    let keepalive = TcpKeepalive::new().with_time(second).with_interval(second);
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(limits.unacknowledged_max))
}
