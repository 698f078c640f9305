//! The loop: connections come, are worked on when their sockets say so, and go.

use crate::{http, stream};
use anyhow::{Context, Result};
use escape_process::{Connection, Service, Session, Turn, Upcall};
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use std::collections::HashMap;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};

/// Names of what is polled; connections have their slots' numbers behind these.
const HTTP: u64 = 0;
const STREAM: u64 = 1;
const AGENT: u64 = 2;
const FIRST_SLOT: u64 = 8;
/// Events taken at once.
const EVENTS_MAX: usize = 256;
/// Connections accepted per turn.
const ACCEPTS_MAX: usize = 64;
/// A slice that the host held is tried again after this long.
const AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 500_000 };

/// The service.
pub struct Server {
    listeners: [TcpListener; 2],
    ports: [u16; 2],
    node: u32,
    service: Service,
    poll: OwnedFd,
    connections: HashMap<u64, Connection>,
    /// Slices that the host held, that have just come, or that have more to do.
    again: Vec<u64>,
}

impl Server {
    /// Registers with the agent.
    pub fn new(http: TcpListener, stream: TcpListener, ports: [u16; 2], node: u32) -> Result<Self> {
        let service = Service::register(&ports).context("registering with the agent")?;
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC).context("epoll")?;
        for (name, listener) in [(HTTP, &http), (STREAM, &stream)] {
            listener.set_nonblocking(true).context("a listener")?;
            epoll::add(&poll, listener, epoll::EventData::new_u64(name), epoll::EventFlags::IN).context("epoll")?;
        }
        epoll::add(&poll, &service, epoll::EventData::new_u64(AGENT), epoll::EventFlags::IN).context("epoll")?;
        let (connections, again) = (HashMap::new(), Vec::new());
        Ok(Self { listeners: [http, stream], ports, node, service, poll, connections, again })
    }

    /// Serves for ever.
    pub fn run(mut self) -> Result<()> {
        println!("escape-sessions: HTTP on port {}, streams on port {}", self.ports[0], self.ports[1]);
        let mut events = Vec::with_capacity(EVENTS_MAX);
        loop {
            let patience = (!self.again.is_empty()).then_some(&AGAIN);
            events.clear();
            match epoll::wait(&self.poll, rustix::buffer::spare_capacity(&mut events), patience) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno).context("epoll"),
            }
            let again = std::mem::take(&mut self.again);
            for name in events.iter().map(|event: &epoll::Event| event.data.u64()).chain(again) {
                match name {
                    HTTP | STREAM => self.accept(name)?,
                    AGENT => self.upcalls()?,
                    slot => self.work(slot)?,
                }
            }
        }
    }

    fn accept(&mut self, name: u64) -> Result<()> {
        for _ in 0..ACCEPTS_MAX {
            let listener = if name == HTTP { &self.listeners[0] } else { &self.listeners[1] };
            let Ok((stream, _)) = listener.accept() else { return Ok(()) };
            match self.service.adopt(stream) {
                Ok(connection) => self.add(connection)?,
                // Told once per connection, and the connection is closed: it would not outlive anything.
                Err(error) => eprintln!("escape-sessions: {error}"),
            }
        }
        Ok(())
    }

    fn upcalls(&mut self) -> Result<()> {
        while let Some(upcall) = self.service.upcall().context("the agent")? {
            match upcall {
                Upcall::Plugged(connection) => self.add(connection)?,
                Upcall::Discarded(key) => {
                    if let Some(connection) = self.connections.remove(&(FIRST_SLOT + u64::from(key.slot))) {
                        connection.forget();
                    }
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, connection: Connection) -> Result<()> {
        let name = FIRST_SLOT + u64::from(connection.key().slot);
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        epoll::add(&self.poll, connection.as_fd(), epoll::EventData::new_u64(name), flags).context("epoll")?;
        self.connections.insert(name, connection);
        self.again.push(name);
        Ok(())
    }

    fn work(&mut self, name: u64) -> Result<()> {
        let Some(connection) = self.connections.get_mut(&name) else { return Ok(()) };
        let (stream_port, node) = (self.ports[1], self.node);
        let program = |session: &mut Session<'_>| {
            if session.flow().service_port == stream_port { stream::run(session) } else { http::run(session, node) }
        };
        match connection.work(program).context("the agent")? {
            Turn::Done(()) if connection.is_due() => self.again.push(name),
            Turn::Done(()) => {}
            Turn::Held => self.again.push(name),
            Turn::Over => {
                self.connections.remove(&name);
            }
        }
        Ok(())
    }
}
