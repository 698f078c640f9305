//! One kernel TCP connection of the generator.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};

use super::http_session::HttpSession;
use super::stream_session::StreamSession;

/// Receive buffer of a stream connection, bytes: small, so that the server's sending is limited by what the schedule
/// reads, not by what the kernel would buffer.
const STREAM_RECEIVE_BUFFER: usize = 8 << 10;

/// What is spoken on the connection.
#[derive(Debug)]
pub enum Talk {
    /// The HTTP session protocol.
    Http(Box<HttpSession>),
    /// The checked byte stream.
    Stream(StreamSession),
}

impl Talk {
    /// Requests without reply.
    pub fn in_flight(&self) -> usize {
        match self {
            Self::Http(session) => session.in_flight(),
            Self::Stream(_) => 0,
        }
    }
}

/// How far the connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The SYN is out.
    Connecting,
    /// Both directions are open.
    Open,
    /// Our direction is ended; the end of the other one is awaited.
    Ending,
}

/// Whether a connection lives as long as the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Yes.
    Whole,
    /// No: it is closed when its requests are answered.
    Short,
}

/// A connection and what is spoken on it.
#[derive(Debug)]
pub struct Connection {
    /// What is spoken.
    pub talk: Talk,
    /// How far it has come.
    pub stage: Stage,
    /// How long it lives.
    pub life: Life,
    /// The kernel has bytes (or an end) that were not read yet. Events are edge-triggered: this remembers them.
    pub readable: bool,
    socket: TcpStream,
    /// Bytes that the kernel did not take yet. Bounded by the session's bound on unanswered requests.
    out: Vec<u8>,
    out_at: usize,
}

impl Connection {
    /// Sends a SYN to `address`, from a port of `from` if that is given.
    pub fn open(
        from: Option<Ipv4Addr>,
        address: SocketAddr,
        talk: Talk,
        life: Life,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        // Requests are written whole: Nagle would only delay the pipelined ones.
        socket.set_tcp_nodelay(true)?;
        if matches!(talk, Talk::Stream(_)) {
            socket.set_recv_buffer_size(STREAM_RECEIVE_BUFFER)?;
        }
        if let Some(from) = from {
            socket.bind(&SocketAddr::from((from, 0)).into())?;
        }
        match socket.connect(&address.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
            _ => {}
        }
        let mut socket = TcpStream::from_std(socket.into());
        registry.register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self { talk, stage: Stage::Connecting, life, readable: false, socket, out: Vec::new(), out_at: 0 })
    }

    /// The client's end, once there is one.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok()
    }

    /// After an event: whether the handshake is done. An error is the reason why it failed.
    pub fn finish_connect(&mut self) -> io::Result<bool> {
        if let Some(error) = self.socket.take_error()? {
            return Err(error);
        }
        match self.socket.peer_addr() {
            Ok(_) => {
                self.stage = Stage::Open;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Where the next bytes to send are put, before [`Connection::flush`].
    pub fn outgoing(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Hands what waits to the kernel, as much as it takes.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.stage == Stage::Connecting {
            return Ok(());
        }
        while let Some(rest) = self.out.get(self.out_at..).filter(|rest| !rest.is_empty()) {
            match self.socket.write(rest) {
                Ok(taken) => self.out_at += taken,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.out_at >= self.out.len() {
            self.out.clear();
            self.out_at = 0;
        }
        Ok(())
    }

    /// Whether all was handed to the kernel.
    pub fn is_flushed(&self) -> bool {
        self.out.is_empty()
    }

    /// Reads once into `buffer`. `Ok(None)`: nothing there now. `Ok(Some(0))`: the other side ended.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            match self.socket.read(buffer) {
                Ok(count) => return Ok(Some(count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.readable = false;
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Ends our direction.
    pub fn end(&mut self) -> io::Result<()> {
        self.stage = Stage::Ending;
        if let Talk::Stream(session) = &mut self.talk {
            session.end();
        }
        self.socket.shutdown(Shutdown::Write)
    }
}
