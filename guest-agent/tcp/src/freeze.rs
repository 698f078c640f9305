//! Out of a socket.

use crate::capsule::{QUEUE_BYTES_MAX, TcpCapsule, TcpOptions};
use crate::error::TcpError;
use crate::socket::{self, Queue};
use std::os::fd::{AsFd, OwnedFd};

/// `TCP_ESTABLISHED`, and the names of the others from 1 on (include/net/tcp_states.h).
const ESTABLISHED: u8 = 1;
const STATES: [&str; 12] = [
    "open",
    "connecting (SYN-SENT)",
    "being opened (SYN-RECEIVED)",
    "ended by us (FIN-WAIT-1)",
    "ended by us (FIN-WAIT-2)",
    "over (TIME-WAIT)",
    "closed",
    "ended by the client (CLOSE-WAIT)",
    "over (LAST-ACK)",
    "a listener",
    "over (CLOSING)",
    "being opened (NEW-SYN-RECEIVED)",
];
/// The kernel holds no larger segment (`GSO_MAX_SIZE`, include/linux/netdevice.h).
const SEGMENT_BYTES_MAX: usize = 1 << 19;
/// Bits of `tcpi_options`.
const HAS_TIMESTAMPS: u8 = 1;
const HAS_SACK: u8 = 2;
const HAS_SCALE: u8 = 4;

/// A connection that is taken out: it sends nothing, and its socket waits to be closed in silence or to go on.
#[derive(Debug)]
pub struct Frozen {
    socket: OwnedFd,
    capsule: TcpCapsule,
}

impl Frozen {
    /// Takes a connection out of its socket, which must be at rest: nobody reads from it or writes to it meanwhile.
    ///
    /// # Errors
    /// It cannot be taken out, and goes on as before: the socket comes back with the error.
    pub fn freeze(socket: OwnedFd) -> Result<Self, (OwnedFd, TcpError)> {
        if let Err(error) = is_open(&socket).and_then(|()| socket::repair(socket.as_fd())) {
            return Err((socket, error));
        }
        match read(&socket) {
            Ok(capsule) => Ok(Self { socket, capsule }),
            Err(error) => {
                // What cannot be left stays silent, which is no worse than a socket that is lost.
                let _ = socket::end_repair(socket.as_fd());
                Err((socket, error))
            }
        }
    }

    /// What was taken out.
    pub fn capsule(&self) -> &TcpCapsule {
        &self.capsule
    }

    /// Closes the socket without a word to the peer: the connection lives in its capsule.
    pub fn close(self) -> TcpCapsule {
        // Dropping a socket in repair sends nothing.
        self.capsule
    }

    /// The connection goes on here.
    ///
    /// # Errors
    /// The kernel does not let it; the socket stays silent.
    pub fn thaw(self) -> Result<OwnedFd, TcpError> {
        socket::end_repair(self.socket.as_fd()).map(|()| self.socket)
    }
}

fn is_open(socket: &OwnedFd) -> Result<(), TcpError> {
    let (state, ..) = socket::info(socket.as_fd())?;
    let name = usize::from(state).checked_sub(1).and_then(|at| STATES.get(at)).copied();
    if state == ESTABLISHED { Ok(()) } else { Err(TcpError::State { state: name.unwrap_or("in an unknown state") }) }
}

fn read(socket: &OwnedFd) -> Result<TcpCapsule, TcpError> {
    let socket = socket.as_fd();
    let (_, agreed, scales) = socket::info(socket)?;
    let options = TcpOptions {
        mss: u16::try_from(socket::segment_max(socket)?).unwrap_or(u16::MAX),
        sack: agreed & HAS_SACK != 0,
        scale: (agreed & HAS_SCALE != 0).then_some(scales),
        timestamp: if agreed & HAS_TIMESTAMPS != 0 { Some(socket::timestamp(socket)?) } else { None },
    };
    let window = socket::window(socket)?;
    let (written_waiting, unsent) = socket::unacknowledged(socket)?;
    let (expected, unread) = queue(socket, Queue::Receive, socket::unread(socket)?)?;
    let (written, mut unacknowledged) = queue(socket, Queue::Send, written_waiting)?;
    let sent = unacknowledged.len().checked_sub(unsent).ok_or(TcpError::NotAtRest { queue: "send" })?;
    let unsent = unacknowledged.split_off(sent);
    let (local, peer) = (socket::address(socket, false)?, socket::address(socket, true)?);
    Ok(TcpCapsule { local, peer, written, expected, options, window, unread, unacknowledged, unsent })
}

/// The number behind a queue, and what is in it.
fn queue(socket: std::os::fd::BorrowedFd<'_>, queue: Queue, bytes: usize) -> Result<(u32, Vec<u8>), TcpError> {
    let name = if queue == Queue::Receive { "receive" } else { "send" };
    if bytes > QUEUE_BYTES_MAX {
        return Err(TcpError::TooMuch { queue: name, bytes, max: QUEUE_BYTES_MAX });
    }
    socket::choose(socket, queue)?;
    let sequence = socket::sequence(socket)?;
    let (mut content, held) = socket::peek(socket, bytes)?;
    if let Some(acknowledged) = held.checked_sub(bytes).filter(|more| *more > 0) {
        // A segment that the peer has in part is held whole: what the queue begins with is older than what is not acknowledged. (The kernel
        // says how much it holds, also when there is less room for it: net/ipv4/tcp.c, tcp_peek_sndq.)
        if acknowledged > SEGMENT_BYTES_MAX {
            return Err(TcpError::NotAtRest { queue: name });
        }
        let (all, held) = socket::peek(socket, held)?;
        if held != bytes + acknowledged || all.len() != held {
            return Err(TcpError::NotAtRest { queue: name });
        }
        content = all.get(acknowledged..).unwrap_or_default().to_vec();
    }
    if content.len() == bytes { Ok((sequence, content)) } else { Err(TcpError::NotAtRest { queue: name }) }
}
