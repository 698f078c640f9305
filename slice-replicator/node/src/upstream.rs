//! The links that this node calls: orchestrator and edge.

use escape_link::{Identity, Link, LinkError, LinkLimits, LogLimit};
use escape_proto::{Hello, Role};
use mio::{Registry, Token};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// After a failed call, the next one.
const CALL_AGAIN: Duration = Duration::from_millis(50);
/// A process that is away is called in vain twenty times a second: that is told once in this time.
const TELL_AGAIN: Duration = Duration::from_secs(10);

/// A link that is called again whenever it ends.
#[derive(Debug)]
pub struct Upstream {
    role: Role,
    addr: SocketAddr,
    token: Token,
    link: Option<Link>,
    call_at: Option<Instant>,
    was_open: bool,
    log: LogLimit,
}

impl Upstream {
    /// A link to the process of this role.
    pub const fn new(role: Role, addr: SocketAddr, token: Token) -> Self {
        Self { role, addr, token, link: None, call_at: None, was_open: false, log: LogLimit::new(TELL_AGAIN) }
    }

    /// Calls if there is no link and it is time.
    pub fn call(&mut self, registry: &Registry, identity: &Identity, hello: Hello, now: Instant) {
        if let Some(link) = &mut self.link {
            if link.check_time(now).is_err() {
                self.link = None;
            }
            return;
        }
        if self.call_at.is_some_and(|at| now < at) {
            return;
        }
        self.call_at = Some(now + CALL_AGAIN);
        match Link::connect(self.addr, identity, self.role, hello, LinkLimits::default(), now) {
            Ok(mut link) => {
                if link.register(registry, self.token).is_ok() {
                    self.link = Some(link);
                }
            }
            Err(error) => tracing::debug!(%error, "call"),
        }
    }

    /// The poll has news. True if the link has just opened.
    pub fn on_event(&mut self, event: &mio::event::Event) -> bool {
        let Some(link) = &mut self.link else { return false };
        if let Err(error) = link.on_event(event) {
            self.fail(&error);
            return false;
        }
        let open = self.is_open();
        if open {
            // Its end is told, whenever it is.
            self.log = LogLimit::new(TELL_AGAIN);
        }
        std::mem::replace(&mut self.was_open, open) != open && open
    }

    /// Messages may be sent.
    pub fn is_open(&self) -> bool {
        self.link.as_ref().is_some_and(Link::is_open)
    }

    /// The next message.
    pub fn next<T: DeserializeOwned>(&mut self) -> Option<T> {
        match self.link.as_mut()?.next_message() {
            Ok(message) => message,
            Err(error) => {
                self.fail(&error);
                None
            }
        }
    }

    /// Stages a message; lost if there is no link (everything that matters is repeated by the engine).
    pub fn send<T: Serialize>(&mut self, message: &T) {
        if let Some(link) = self.link.as_mut().filter(|l| l.is_open())
            && let Err(error) = link.send(message)
        {
            self.fail(&error);
        }
    }

    /// Puts everything staged on the wire.
    pub fn flush(&mut self) {
        if let Some(link) = &mut self.link
            && let Err(error) = link.flush()
        {
            self.fail(&error);
        }
    }

    /// Ends the link; the next call is due at once.
    pub fn end(&mut self) {
        (self.link, self.call_at, self.was_open) = (None, None, false);
    }

    fn fail(&mut self, error: &LinkError) {
        if let Some(suppressed) = self.log.pass(Instant::now()) {
            tracing::info!(%error, suppressed, "link ended");
        }
        self.link = None;
        self.was_open = false;
    }
}
