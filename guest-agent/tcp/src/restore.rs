//! Into a socket.

use crate::capsule::TcpCapsule;
use crate::error::TcpError;
use crate::socket::{self, Queue, RepairOption};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The clock of timestamps goes on by so much, in its own units, whatever time has passed: a client drops segments whose
/// timestamps go back (RFC 7323, section 5.3), and takes those that are ahead.
const CLOCK_AHEAD: u32 = 1000;
/// Queues with more than this get room of their own.
const ROOM_GIVEN_BYTES: usize = 32 << 10;
/// Codes of options.
const MSS: u32 = 2;
const SCALE: u32 = 3;
const SACK: u32 = 4;
const TIMESTAMPS: u32 = 8;

/// A socket of a connection that says nothing yet. Dropped, it is gone in silence.
#[derive(Debug)]
pub struct Prepared {
    socket: OwnedFd,
}

impl AsFd for Prepared {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl TcpCapsule {
    /// Makes a socket of the connection. The machine must have its address; a listener on its port does not disturb.
    /// What was not acknowledged is sent again when the kernel's timer says so, what was not sent goes out at once.
    ///
    /// # Errors
    /// The kernel does not take it; nothing is left of the attempt, and no packet has left.
    pub fn restore(&self) -> Result<OwnedFd, TcpError> {
        self.begin(self.prepare()?)
    }

    /// The first part of [`Self::restore`], and the longer: any thread may do it, ahead of the connection's turn.
    ///
    /// # Errors
    /// As for [`Self::restore`].
    pub fn prepare(&self) -> Result<Prepared, TcpError> {
        self.in_repair(&self.unacknowledged).map(|socket| Prepared { socket })
    }

    /// The second part: the connection goes on.
    ///
    /// # Errors
    /// As for [`Self::restore`].
    pub fn begin(&self, Prepared { socket: owned }: Prepared) -> Result<OwnedFd, TcpError> {
        let socket = owned.as_fd();
        socket::end_repair(socket)?;
        // Not earlier: in repair the port is shared with whoever has it, and this would take that back.
        socket::share_port(socket)?;
        self.put(socket, "send", &self.unsent)?;
        Ok(owned)
    }

    /// The same, but all output counts as sent, and the peer is asked what it has: a segment below its window leaves at once, which it
    /// must answer. What it lacks is sent again when the kernel's timer says so, after seconds; so this is for whoever hears the answer
    /// ([`crate::segments_heard`]) and goes on from there.
    ///
    /// # Errors
    /// As for [`Self::restore`].
    pub fn restore_and_ask(&self) -> Result<OwnedFd, TcpError> {
        let owned = self.in_repair(&[self.unacknowledged.as_slice(), &self.unsent].concat())?;
        let socket = owned.as_fd();
        socket::end_repair_and_ask(socket)?;
        socket::share_port(socket)?;
        Ok(owned)
    }

    /// A socket of the connection that sends nothing yet; this of its output counts as sent.
    fn in_repair(&self, sent: &[u8]) -> Result<OwnedFd, TcpError> {
        let owned = socket::new()?;
        let socket = owned.as_fd();
        socket::repair(socket)?;
        socket::bind(socket, self.local)?;
        for (queue, behind, bytes) in [
            (Queue::Receive, self.expected, self.unread.len()),
            (Queue::Send, self.written, self.unacknowledged.len() + self.unsent.len()),
        ] {
            if bytes > ROOM_GIVEN_BYTES {
                // The kernel counts its own overhead in.
                socket::set_room(socket, queue, 2 * bytes)?;
            }
            socket::choose(socket, queue)?;
            socket::set_sequence(socket, behind.wrapping_sub(u32::try_from(bytes).unwrap_or(0)))?;
        }
        socket::connect(socket, self.peer)?;
        self.agree(socket)?;
        self.fill(socket, Queue::Receive, &self.unread)?;
        self.fill(socket, Queue::Send, sent)?;
        socket::set_window(socket, self.window)?;
        socket::choose(socket, Queue::None)?;
        Ok(owned)
    }

    fn agree(&self, socket: BorrowedFd<'_>) -> Result<(), TcpError> {
        let options = self.options;
        let option = |code, value| RepairOption { code, value };
        // Said even where there is none: connecting has chosen a scale of our windows, of which the peer would know nothing.
        let (of_peer, ours) = options.scale.unwrap_or_default();
        let scale = Some(option(SCALE, u32::from(of_peer) | u32::from(ours) << 16));
        let sack = options.sack.then(|| option(SACK, 0));
        let timestamps = options.timestamp.map(|_| option(TIMESTAMPS, 0));
        let all: Vec<RepairOption> =
            [sack, scale, timestamps, Some(option(MSS, options.mss.into()))].into_iter().flatten().collect();
        socket::set_options(socket, &all)?;
        socket::compute_segment_max(socket)?;
        options.timestamp.map_or(Ok(()), |clock| socket::set_timestamp(socket, clock.wrapping_add(CLOCK_AHEAD)))
    }

    fn fill(&self, socket: BorrowedFd<'_>, queue: Queue, bytes: &[u8]) -> Result<(), TcpError> {
        if bytes.is_empty() {
            return Ok(());
        }
        socket::choose(socket, queue)?;
        self.put(socket, if queue == Queue::Receive { "receive" } else { "send" }, bytes)
    }

    fn put(&self, socket: BorrowedFd<'_>, queue: &'static str, mut bytes: &[u8]) -> Result<(), TcpError> {
        while !bytes.is_empty() {
            let taken = socket::send(socket, bytes)?;
            bytes = match bytes.get(taken..) {
                Some(rest) if taken > 0 => rest,
                _ => return Err(TcpError::NoRoom { queue, peer: self.peer }),
            };
        }
        Ok(())
    }
}
