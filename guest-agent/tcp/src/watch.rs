//! What a kernel says of a connection that it keeps.

use crate::error::TcpError;
use crate::socket;
use std::os::fd::BorrowedFd;

/// `TCP_CLOSE` (include/net/tcp_states.h).
const CLOSED: u8 = 7;

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
