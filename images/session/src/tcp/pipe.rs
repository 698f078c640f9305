//! A connection as the session sees it: bytes in, bytes out. What is read and written is counted for `put_ref`.

use crate::tcp::state::{TxRing, write_position};
use smoltcp::socket::tcp::{Socket, State};

/// The byte streams of one connection.
pub(crate) struct Pipe<'a> {
    socket: &'a mut Socket<'static>,
    consumed: &'a mut u64,
    tx_end: &'a mut u32,
    close_wanted: &'a mut u32,
    tx: TxRing,
}

impl<'a> Pipe<'a> {
    pub(crate) fn new(
        socket: &'a mut Socket<'static>,
        consumed: &'a mut u64,
        tx_end: &'a mut u32,
        close_wanted: &'a mut u32,
        tx: TxRing,
    ) -> Self {
        Self { socket, consumed, tx_end, close_wanted, tx }
    }

    /// Sends the FIN that waited, if all is acknowledged now.
    pub(crate) fn close_if_wanted(&mut self) {
        if *self.close_wanted != 0 {
            self.close();
        }
    }

    /// Bytes that can be read.
    pub(crate) fn available(&self) -> usize {
        self.socket.recv_queue()
    }

    /// The peer sends no more, and everything was read.
    pub(crate) fn at_end(&self) -> bool {
        self.socket.recv_queue() == 0
            && matches!(self.socket.state(), State::CloseWait | State::LastAck | State::Closing | State::TimeWait)
    }

    /// The peer's FIN is here; there may be bytes to read before it.
    pub(crate) fn peer_done(&self) -> bool {
        matches!(self.socket.state(), State::CloseWait | State::LastAck | State::Closing | State::TimeWait)
    }

    /// The handshake is over, and we have not closed.
    pub(crate) fn may_write(&self) -> bool {
        *self.close_wanted == 0 && matches!(self.socket.state(), State::Established | State::CloseWait)
    }

    /// Bytes that can be written at once.
    pub(crate) fn space(&self) -> usize {
        if self.may_write() { self.socket.send_capacity() - self.socket.send_queue() } else { 0 }
    }

    /// Copies the next bytes without reading them; returns how many.
    pub(crate) fn peek(&mut self, into: &mut [u8]) -> usize {
        self.socket.peek_slice(into).unwrap_or(0)
    }

    /// Reads: `f` gets the next contiguous bytes and says how many it took.
    pub(crate) fn read<R>(&mut self, f: impl FnOnce(&[u8]) -> (usize, R)) -> Option<R> {
        let mut taken = 0;
        let r = self.socket.recv(|bytes| {
            let (n, r) = f(bytes);
            taken = n.min(bytes.len());
            (taken, r)
        });
        *self.consumed += taken as u64;
        r.ok()
    }

    /// Takes `n` bytes that were looked at before.
    pub(crate) fn skip(&mut self, mut n: usize) {
        while n > 0 {
            let taken = self.read(|bytes| {
                let taken = n.min(bytes.len());
                (taken, taken)
            });
            match taken {
                Some(t) if t > 0 => n -= t,
                _ => return,
            }
        }
    }

    /// Writes all of `bytes`: the caller looked at [`Self::space`].
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        let written = self.socket.send_slice(bytes);
        debug_assert_eq!(written, Ok(bytes.len()));
    }

    /// Writes: `f` gets contiguous free space and says how much it filled. Returns that.
    pub(crate) fn fill(&mut self, f: impl FnOnce(&mut [u8]) -> usize) -> usize {
        let filled = self.socket.send(|space| {
            let n = f(space).min(space.len());
            (n, n)
        });
        filled.unwrap_or(0)
    }

    /// Sends FIN behind what was written; if the peer has closed before, once all of that is acknowledged. smoltcp 0.14 does not
    /// look at windows any more in LAST-ACK: with bytes still to send it would never hear that a closed window has opened.
    pub(crate) fn close(&mut self) {
        if self.socket.state() == State::CloseWait && self.socket.send_queue() > 0 {
            *self.close_wanted = 1;
            return;
        }
        *self.close_wanted = 0;
        // smoltcp tells the position no more once it takes no more data.
        if let Some(at) = write_position(self.socket, self.tx) {
            *self.tx_end = at;
        }
        self.socket.close();
    }
}
