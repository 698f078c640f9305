//! The link to the orchestrator, called again whenever it ends.

use escape_link::{Identity, Link, LinkError, LinkLimits};
use escape_proto::{FromOrchestrator, Hello, Incarnation, PROTOCOL_VERSION, Role};
use mio::event::Event;
use mio::{Registry, Token};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Between calls.
const CALL_AGAIN: Duration = Duration::from_millis(50);

/// A link that comes back.
#[derive(Debug)]
pub(super) struct Upstream {
    addr: SocketAddr,
    token: Token,
    identity: Identity,
    link: Option<Link>,
    call_at: Option<Instant>,
    /// The fault of the last call was told; further ones are told when something changes.
    complained: bool,
}

impl Upstream {
    pub(super) const fn new(addr: SocketAddr, token: Token, identity: Identity) -> Self {
        Self { addr, token, identity, link: None, call_at: None, complained: false }
    }

    /// Calls if there is no link and it is time; ends a call that takes too long.
    pub(super) fn on_time(&mut self, registry: &Registry, now: Instant) {
        match &mut self.link {
            Some(link) => {
                if let Err(error) = link.check_time(now) {
                    self.fail(&error);
                }
            }
            None if self.call_at.is_none_or(|at| now >= at) => self.call(registry, now),
            None => {}
        }
    }

    /// The poll has news.
    pub(super) fn on_event(&mut self, event: &Event) {
        if let Some(link) = &mut self.link
            && let Err(error) = link.on_event(event)
        {
            self.fail(&error);
        }
    }

    /// The cluster that the orchestrator named, once the link is open.
    pub(super) fn cluster(&self) -> Option<[u8; 16]> {
        Some(self.link.as_ref()?.peer()?.cluster)
    }

    /// The next message.
    pub(super) fn next(&mut self) -> Option<FromOrchestrator> {
        match self.link.as_mut()?.next_message() {
            Ok(message) => message,
            Err(error) => {
                self.fail(&error);
                None
            }
        }
    }

    fn call(&mut self, registry: &Registry, now: Instant) {
        self.call_at = Some(now + CALL_AGAIN);
        let nobody = Incarnation(0);
        let cluster = [0; 16];
        let hello =
            Hello { version: PROTOCOL_VERSION, cluster, from: Role::Edge, inc: nobody, expect: nobody, channel: 0 };
        let called = Link::connect(self.addr, &self.identity, Role::Orchestrator, hello, LinkLimits::default(), now);
        match called {
            Ok(mut link) => {
                if link.register(registry, self.token).is_ok() {
                    self.link = Some(link);
                }
            }
            Err(error) => self.fail(&error),
        }
    }

    fn fail(&mut self, error: &LinkError) {
        let was_open = self.link.take().is_some_and(|link| link.peer().is_some());
        if was_open || !self.complained {
            tracing::warn!("{error}; calling again every {} ms", CALL_AGAIN.as_millis());
        }
        self.complained = !was_open;
    }
}
