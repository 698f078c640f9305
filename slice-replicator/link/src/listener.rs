//! Accepts connections and shakes hands, so that the owner sees only peers that proved who they are.

use crate::accept_rate::AcceptRate;
use crate::error::{LinkError, LinkFault};
use crate::greeting::RoleSet;
use crate::identity::Identity;
use crate::limits::ListenerLimits;
use crate::link::Link;
use crate::log_limit::LogLimit;
use escape_proto::Hello;
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::{Duration, Instant};

/// How long to wait after the system refused a connection (no descriptors left).
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// What came to a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenerCounters {
    /// Connections accepted.
    pub accepted: u64,
    /// Links that became open.
    pub opened: u64,
    /// Refused by TLS or framing: foreign certificates, foreign or damaged bytes, an early end.
    pub refused_stream: u64,
    /// Hellos refused with a cause.
    pub refused_hello: u64,
    /// Handshakes that took too long.
    pub timed_out: u64,
    /// Closed at once: too many handshakes of one address.
    pub over_address: u64,
    /// Dropped to make room for newer handshakes.
    pub crowded: u64,
    /// Failed accepts (no descriptors left, connection already gone).
    pub accept_failed: u64,
}

impl ListenerCounters {
    /// How handshakes ended, with the name of each way.
    pub const fn outcomes(&self) -> [(&'static str, u64); 7] {
        [
            ("opened", self.opened),
            ("refused_stream", self.refused_stream),
            ("refused_hello", self.refused_hello),
            ("timed_out", self.timed_out),
            ("over_address", self.over_address),
            ("crowded", self.crowded),
            ("accept_failed", self.accept_failed),
        ]
    }
}

/// No listener.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {addr}: {source} (is the address this host's, is another process there?)")]
pub struct ListenError {
    /// The address.
    pub addr: SocketAddr,
    /// What the system says.
    #[source]
    pub source: io::Error,
}

/// A listening socket with its handshakes under way (bounded by [`ListenerLimits`]).
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    addr: SocketAddr,
    identity: Identity,
    hello: Hello,
    admits: RoleSet,
    limits: ListenerLimits,
    rate: AcceptRate,
    first_token: usize,
    pending: Vec<Option<Pending>>,
    opened: VecDeque<Link>,
    /// When to look into the backlog again, if it may hold connections that were not announced anew.
    retry_at: Option<Instant>,
    counters: ListenerCounters,
    log: LogLimit,
    refusal: Option<LinkError>,
}

#[derive(Debug)]
struct Pending {
    link: Link,
    since: Instant,
}

impl Listener {
    /// Binds. `hello` is what this process says of itself; `admits`: who may connect.
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn bind(
        addr: SocketAddr,
        identity: &Identity,
        hello: Hello,
        admits: RoleSet,
        limits: ListenerLimits,
        now: Instant,
    ) -> Result<Self, ListenError> {
        let failed = |source| ListenError { addr, source };
        let socket = TcpListener::bind(addr).map_err(failed)?;
        let addr = socket.local_addr().map_err(failed)?;
        Ok(Self {
            socket,
            addr,
            identity: identity.clone(),
            hello,
            admits,
            rate: AcceptRate::new(limits.accepts_per_second, limits.accept_burst, now),
            first_token: 0,
            pending: (0..limits.pending_max.max(1)).map(|_| None).collect(),
            opened: VecDeque::new(),
            retry_at: None,
            counters: ListenerCounters::default(),
            log: LogLimit::new(Duration::from_secs(1)),
            refusal: None,
            limits,
        })
    }

    /// The address, with the port that the system chose if 0 was asked for.
    pub const fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// What this process says from now on (after a join: cluster and incarnation). Handshakes under way keep the old.
    pub fn set_hello(&mut self, hello: Hello) {
        self.hello = hello;
    }

    /// What came so far.
    pub const fn counters(&self) -> ListenerCounters {
        self.counters
    }

    /// The last refusal since the last call.
    pub const fn take_refusal(&mut self) -> Option<LinkError> {
        self.refusal.take()
    }

    /// Registers the socket as `first`; handshakes use the tokens behind it, see [`Self::tokens`].
    ///
    /// # Errors
    /// What the registry says.
    pub fn register(&mut self, registry: &Registry, first: Token) -> io::Result<()> {
        self.first_token = first.0;
        registry.register(&mut self.socket, first, Interest::READABLE)
    }

    /// The tokens whose events belong to [`Self::on_event`].
    pub fn tokens(&self) -> Range<usize> {
        self.first_token..self.first_token + 1 + self.pending.len()
    }

    /// An event of one of [`Self::tokens`]. Afterwards take the open links with [`Self::next_link`].
    pub fn on_event(&mut self, registry: &Registry, event: &Event, now: Instant) {
        match event.token().0.checked_sub(self.first_token) {
            None => {}
            Some(0) => self.accept(registry, now),
            Some(n) => self.advance(registry, n - 1, Some(event)),
        }
    }

    /// Time passed: ends handshakes that take too long, looks into the backlog again. Call it at [`Self::deadline`].
    pub fn on_time(&mut self, registry: &Registry, now: Instant) {
        for slot in 0..self.pending.len() {
            let Some(Some(pending)) = self.pending.get_mut(slot) else { continue };
            if let Err(error) = pending.link.check_time(now) {
                self.drop_pending(registry, slot, error);
            }
        }
        if self.retry_at.is_some_and(|at| now >= at) {
            self.accept(registry, now);
        }
    }

    /// When [`Self::on_time`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        let handshakes = self.pending.iter().flatten().filter_map(|pending| pending.link.deadline());
        handshakes.chain(self.retry_at).min()
    }

    /// A link whose peer is known, no longer registered anywhere: register it, then [`Link::recv`] at once, for its
    /// first frames may have come with the hello.
    pub fn next_link(&mut self) -> Option<Link> {
        self.opened.pop_front()
    }

    fn accept(&mut self, registry: &Registry, now: Instant) {
        self.retry_at = None;
        loop {
            // Over the rate, or the owner does not take its links: connections wait in the kernel's bounded backlog.
            if self.opened.len() >= self.pending.len() || !self.rate.take(now) {
                self.retry_at = Some(self.rate.next().max(now + Duration::from_millis(1)));
                return;
            }
            match self.socket.accept() {
                Ok((socket, addr)) => self.welcome(registry, socket, addr, now),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.counters.accept_failed += 1;
                    self.retry_at = Some(now + ACCEPT_RETRY);
                    return;
                }
            }
        }
    }

    fn welcome(&mut self, registry: &Registry, socket: TcpStream, addr: SocketAddr, now: Instant) {
        self.counters.accepted += 1;
        if self.pending_from(addr.ip()) >= self.limits.pending_per_address_max {
            self.counters.over_address += 1;
            return;
        }
        let Some(slot) = self.free_slot(registry) else { return };
        let token = Token(self.first_token + 1 + slot);
        let hello = self.hello.clone();
        match Link::accept(socket, addr, &self.identity, hello, self.admits, self.limits.link, now) {
            Ok(mut link) => {
                if link.register(registry, token).is_err() {
                    self.counters.accept_failed += 1;
                    return;
                }
                if let Some(place) = self.pending.get_mut(slot) {
                    *place = Some(Pending { link, since: now });
                }
                self.advance(registry, slot, None);
            }
            Err(error) => self.report(error),
        }
    }

    fn pending_from(&self, ip: IpAddr) -> usize {
        self.pending.iter().flatten().filter(|pending| pending.link.remote().addr.ip() == ip).count()
    }

    /// A free place; if there is none, the oldest handshake makes room.
    fn free_slot(&mut self, registry: &Registry) -> Option<usize> {
        if let Some(free) = self.pending.iter().position(Option::is_none) {
            return Some(free);
        }
        let oldest = (0..self.pending.len())
            .min_by_key(|&slot| self.pending.get(slot)?.as_ref().map(|pending| pending.since))?;
        let pending_max = self.pending.len();
        let link = &mut self.pending.get_mut(oldest)?.as_mut()?.link;
        let error = link.die(LinkFault::Crowded { pending_max });
        self.drop_pending(registry, oldest, error);
        Some(oldest)
    }

    fn advance(&mut self, registry: &Registry, slot: usize, event: Option<&Event>) {
        let Some(Some(pending)) = self.pending.get_mut(slot) else { return };
        let result = match event {
            Some(event) => pending.link.on_event(event),
            None => pending.link.on_ready(true, true),
        };
        match result {
            Err(error) => self.drop_pending(registry, slot, error),
            Ok(()) if pending.link.is_open() => {
                if let Some(mut open) = self.pending.get_mut(slot).and_then(Option::take) {
                    self.counters.opened += 1;
                    // It was registered with this registry, so this cannot fail in a way that matters.
                    let _ = open.link.deregister(registry);
                    self.opened.push_back(open.link);
                }
            }
            Ok(()) => {}
        }
    }

    fn drop_pending(&mut self, registry: &Registry, slot: usize, error: LinkError) {
        if let Some(mut gone) = self.pending.get_mut(slot).and_then(Option::take) {
            // The socket is closed right after; a failure here changes nothing.
            let _ = gone.link.deregister(registry);
        }
        self.report(error);
    }

    fn report(&mut self, error: LinkError) {
        let counter = match &error.fault {
            LinkFault::HelloRefused(_) => &mut self.counters.refused_hello,
            LinkFault::HandshakeTimeout { .. } => &mut self.counters.timed_out,
            LinkFault::Crowded { .. } => &mut self.counters.crowded,
            _ => &mut self.counters.refused_stream,
        };
        *counter += 1;
        if let Some(suppressed) = self.log.pass(Instant::now()) {
            tracing::warn!(listener = %self.addr, suppressed, "refused: {error}");
        }
        self.refusal = Some(error);
    }
}
