//! What a kernel says of a connection that it keeps.

use crate::error::TcpError;
use crate::socket::{self, Queue};
use std::os::fd::BorrowedFd;

/// `TCP_CLOSE` (include/net/tcp_states.h).
const CLOSED: u8 = 7;
/// Its end was given to the kernel: `TCP_FIN_WAIT1`, `FIN_WAIT2`, `TIME_WAIT`, `LAST_ACK`, `CLOSING`.
const ENDED_BY_US: [u8; 5] = [4, 5, 6, 9, 11];

/// Bytes that were written and not acknowledged; the end, if it was sent, counts as one.
///
/// # Errors
/// It is no connection.
pub fn outstanding(connection: BorrowedFd<'_>) -> Result<usize, TcpError> {
    socket::outstanding(connection)
}

/// The peer's window: how many bytes beyond those that it has acknowledged it takes.
///
/// # Errors
/// It is no connection.
pub fn peer_window(connection: BorrowedFd<'_>) -> Result<u32, TcpError> {
    socket::peer_window(connection)
}

/// Segments that have come from the peer since the socket was made.
///
/// # Errors
/// It is no connection.
pub fn segments_heard(connection: BorrowedFd<'_>) -> Result<u32, TcpError> {
    socket::segments_in(connection)
}

/// Asks the peer what it has, once more: it must answer.
///
/// # Errors
/// CAP_NET_ADMIN is missing, or it is no connection.
pub fn ask_again(connection: BorrowedFd<'_>) -> Result<(), TcpError> {
    socket::repair(connection)?;
    socket::end_repair_and_ask(connection)
}

/// The sequence number behind all that the kernel has been given to send, and whether our end, which counts as one, is among it.
///
/// # Errors
/// CAP_NET_ADMIN is missing, or it is no connection.
pub fn given(connection: BorrowedFd<'_>) -> Result<(u32, bool), TcpError> {
    let ended = ENDED_BY_US.contains(&socket::info(connection)?.0);
    socket::repair(connection)?;
    let behind = socket::choose(connection, Queue::Send).and_then(|()| socket::sequence(connection));
    socket::choose(connection, Queue::None)?;
    socket::end_repair(connection)?;
    // Repair has taken it back.
    socket::share_port(connection)?;
    Ok((behind?, ended))
}

/// Whether it has ended both ways, or is broken.
///
/// # Errors
/// It is no connection.
pub fn is_closed(connection: BorrowedFd<'_>) -> Result<bool, TcpError> {
    Ok(socket::info(connection)?.0 == CLOSED)
}

/// From here on the kernel sends nothing more of it, not even when its last descriptor is closed. It goes on elsewhere, or nowhere.
///
/// # Errors
/// CAP_NET_ADMIN is missing, or it is no connection.
pub fn silence(connection: BorrowedFd<'_>) -> Result<(), TcpError> {
    socket::repair(connection)
}
