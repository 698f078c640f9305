//! Heartbeats from the network.

use crate::error::ProcessError;
use escape_link::LogLimit;
use escape_proto::{Beat, BeatError};
use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Datagrams taken per loop turn: a flood delays the links by that many, and no more.
const BEATS_PER_TURN_MAX: usize = 256;

/// The socket and what came to it.
#[derive(Debug)]
pub(crate) struct BeatSocket {
    socket: UdpSocket,
    key: [u8; 32],
    forged: u64,
    malformed: u64,
    log: LogLimit,
}

impl BeatSocket {
    pub(crate) fn bind(addr: SocketAddr, key: [u8; 32]) -> Result<Self, ProcessError> {
        let socket = UdpSocket::bind(addr).map_err(|source| ProcessError::Beats { addr, source })?;
        Ok(Self { socket, key, forged: 0, malformed: 0, log: LogLimit::new(Duration::from_secs(1)) })
    }

    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> Result<(), ProcessError> {
        registry
            .register(&mut self.socket, token, Interest::READABLE)
            .map_err(ProcessError::system("registration of heartbeats"))
    }

    pub(crate) fn local_addr(&self) -> Result<SocketAddr, ProcessError> {
        self.socket.local_addr().map_err(ProcessError::system("address of heartbeats"))
    }

    /// Datagrams with a wrong authenticator, and those that are no beat at all.
    pub(crate) const fn refused(&self) -> (u64, u64) {
        (self.forged, self.malformed)
    }

    /// Takes what has arrived. True: there is more, come again without waiting.
    pub(crate) fn receive(&mut self, mut take: impl FnMut(Beat)) -> bool {
        // One byte more than the longest beat: a longer datagram is seen to be too long.
        let mut datagram = [0; Beat::BYTES_MAX + 1];
        for _ in 0..BEATS_PER_TURN_MAX {
            match self.socket.recv_from(&mut datagram) {
                Ok((n, from)) => match Beat::open(datagram.get(..n).unwrap_or_default(), &self.key) {
                    Ok(beat) => take(beat),
                    Err(error) => self.refuse(error, from),
                },
                Err(e) if e.kind() == ErrorKind::WouldBlock => return false,
                // Echoes of our own sending (there is none) or passing trouble: beats are many.
                Err(_) => {}
            }
        }
        true
    }

    fn refuse(&mut self, error: BeatError, from: SocketAddr) {
        match error {
            BeatError::Forged => self.forged += 1,
            BeatError::Malformed => self.malformed += 1,
        }
        if let Some(suppressed) = self.log.pass(Instant::now()) {
            tracing::warn!(%from, suppressed, "refused: {error}");
        }
    }
}
