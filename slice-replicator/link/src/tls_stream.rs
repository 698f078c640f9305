//! TLS over a socket that never blocks.

use crate::error::LinkFault;
use crate::frame_reader::FrameReader;
use mio::net::TcpStream;
use rustls::Connection;
use rustls::pki_types::CertificateDer;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::ops::Range;

/// Ciphertext read at once while the peer is a stranger, bytes.
const WIRE_STRANGER: usize = 4 << 10;
/// Ciphertext read at once on an open link, bytes: one system call for four full records.
const WIRE_OPEN: usize = 64 << 10;

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    /// Something; there may be more.
    Some,
    /// Nothing now.
    Nothing,
    /// The peer said farewell.
    Farewell,
    /// The stream ended without farewell.
    End,
}

/// A TLS connection and its socket.
pub(crate) struct TlsStream {
    pub(crate) socket: TcpStream,
    tls: Connection,
    wire: Vec<u8>,
    unread: Range<usize>,
    readable: bool,
    /// A short read does not prove that the socket is drained: its end may lie behind it.
    until_blocked: bool,
    farewell: bool,
}

impl TlsStream {
    pub(crate) fn new(socket: TcpStream, mut tls: Connection) -> Self {
        // Bounded by the caller: at most one chunk of the frame queue lies in here.
        tls.set_buffer_limit(None);
        Self {
            socket,
            tls,
            wire: vec![0; WIRE_STRANGER],
            unread: 0..0,
            readable: true,
            until_blocked: true,
            farewell: false,
        }
    }

    /// The poll says that there is something to read; `ended`: it also saw the end of the stream or an error, or the
    /// caller does not know.
    pub(crate) fn set_readable(&mut self, ended: bool) {
        self.readable = true;
        self.until_blocked |= ended;
    }

    /// The peer is known: read in larger pieces.
    pub(crate) fn set_open(&mut self) {
        self.wire.resize(WIRE_OPEN, 0);
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    pub(crate) fn peer_certificate(&self) -> Option<&CertificateDer<'static>> {
        self.tls.peer_certificates()?.first()
    }

    /// Reads at most one piece from the socket, decrypts it into `frames`.
    pub(crate) fn fill(&mut self, frames: &mut FrameReader) -> Result<Filled, LinkFault> {
        if self.unread.is_empty() {
            if self.farewell {
                return Ok(Filled::Farewell);
            }
            if !self.readable {
                return Ok(Filled::Nothing);
            }
            match self.read_socket()? {
                None => return Ok(Filled::Nothing),
                Some(0) => return Ok(Filled::End),
                Some(n) => self.unread = 0..n,
            }
        }
        self.decrypt(frames)?;
        Ok(Filled::Some)
    }

    /// Encrypts; [`Self::drain`] puts it on the wire.
    pub(crate) fn seal(&mut self, plaintext: &[u8]) -> Result<(), LinkFault> {
        self.tls.writer().write_all(plaintext).map_err(LinkFault::Socket)
    }

    /// Writes what TLS has ready. `false`: the socket takes no more now.
    pub(crate) fn drain(&mut self) -> Result<bool, LinkFault> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.socket) {
                Ok(0) => return Err(LinkFault::Socket(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(LinkFault::Socket(e)),
            }
        }
        Ok(true)
    }

    /// Says farewell (or, after a TLS failure, sends the alert that tells the peer why) as far as the socket takes it
    /// at once, and ends the connection.
    pub(crate) fn end(&mut self) {
        self.tls.send_close_notify();
        // The connection ends either way; what cannot be said now is not said.
        let _ = self.drain();
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    fn read_socket(&mut self) -> Result<Option<usize>, LinkFault> {
        loop {
            match self.socket.read(&mut self.wire) {
                Ok(n) => {
                    if n < self.wire.len() && !self.until_blocked {
                        self.readable = false;
                    }
                    return Ok(Some(n));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.readable = false;
                    self.until_blocked = false;
                    return Ok(None);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(LinkFault::Socket(e)),
            }
        }
    }

    fn decrypt(&mut self, frames: &mut FrameReader) -> Result<(), LinkFault> {
        while !self.unread.is_empty() {
            let mut piece = self.wire.get(self.unread.clone()).unwrap_or_default();
            let n = self.tls.read_tls(&mut piece).map_err(LinkFault::Socket)?;
            self.unread.start += n;
            let state = self.tls.process_new_packets()?;
            let plain = state.plaintext_bytes_to_read();
            frames.fill(&mut self.tls.reader(), plain).map_err(LinkFault::Socket)?;
            if state.peer_has_closed() {
                self.farewell = true;
            }
            if n == 0 {
                // Only after the peer's farewell does TLS take no more: what follows is noise.
                self.unread = 0..0;
            }
        }
        Ok(())
    }
}
