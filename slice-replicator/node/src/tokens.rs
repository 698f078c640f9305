//! Names of what the data thread polls.

use mio::Token;

/// The guest's TX queue was kicked.
pub const TX_KICK: Token = Token(0);
/// The guest rang the control doorbell.
pub const DOORBELL: Token = Token(1);
/// A vCPU thread stopped.
pub const GUEST_EXIT: Token = Token(2);
/// The guest's entropy queue was kicked.
pub const RNG_KICK: Token = Token(3);
/// The guest gave back receive buffers.
pub const RX_KICK: Token = Token(4);
/// Frames from the fabric.
pub const TAP: Token = Token(5);
/// The link to the orchestrator.
pub const ORCHESTRATOR: Token = Token(7);
/// The link to the edge.
pub const EDGE: Token = Token(8);
/// Commands on standard input.
pub const OPERATOR: Token = Token(9);
/// The control ring has something for a guest without an interrupt for it.
pub const WAKE: Token = Token(10);
/// Devices of a stock guest have something to do.
pub const STOCK: Token = Token(11);
/// The agent of a Linux guest calls to be woken.
pub const WAKER: Token = Token(12);
/// Links to peers: `PEER0 + 2 * node + channel`.
pub const PEER0: usize = 32;
/// The listener and its pending handshakes.
pub const LISTENER: Token = Token(256);

/// The token of a peer's channel.
pub const fn peer(node: u16, channel: u8) -> Token {
    Token(PEER0 + 2 * node as usize + channel as usize)
}

/// The peer and channel of a token.
pub const fn peer_of(token: Token) -> Option<(u16, u8)> {
    match token.0.checked_sub(PEER0) {
        Some(n) if token.0 < LISTENER.0 => Some(((n / 2) as u16, (n % 2) as u8)),
        _ => None,
    }
}
