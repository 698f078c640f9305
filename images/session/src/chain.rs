//! The hash chain over the requests of a session: the client's proof that each of them was executed once, in order.
//!
//! H₀ is 32 zero bytes. H_k = BLAKE3(H_{k−1} ‖ method ‖ `' '` ‖ target ‖ `' '` ‖ BLAKE3(body)), where method and target are the bytes
//! of the request line and body is what remains after removing the transfer coding (nothing for a request without a body).
//! A request counts once it was read to its end, whatever the status of its reply. Requests that end the connection because
//! they could not be read to their end (400, 411 on `PUT`, 413, 414, 417, 431, 501 for an unknown coding, 505) do not count.
//! Every reply carries `X-Requests: k` and `X-Chain: hex(H_k)` for the last request counted.

/// A value of the chain.
pub type Link = [u8; 32];

/// H₀.
pub const START: Link = [0; 32];

/// The next value: `previous` is H_{k−1}, `body` the BLAKE3 hash of the request's body.
///
/// ```
/// use escape_session::chain;
/// let first = chain::next(&chain::START, b"POST", b"/counter", &chain::hash(b""));
/// let second = chain::next(&first, b"PUT", b"/kv/a", &chain::hash(b"value"));
/// assert_ne!(first, second);
/// ```
pub fn next(previous: &Link, method: &[u8], target: &[u8], body: &Link) -> Link {
    let mut hasher = blake3::Hasher::new();
    for part in [&previous[..], method, b" ", target, b" ", &body[..]] {
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

/// BLAKE3 of a whole body.
pub fn hash(body: &[u8]) -> Link {
    *blake3::hash(body).as_bytes()
}

/// BLAKE3 of nothing.
pub(crate) const EMPTY_HASH: Link = [
    0xaf, 0x13, 0x49, 0xb9, 0xf5, 0xf9, 0xa1, 0xa6, 0xa0, 0x40, 0x4d, 0xea, 0x36, 0xdc, 0xc9, 0x49, 0x9b, 0xcb, 0x25,
    0xc9, 0xad, 0xc1, 0x12, 0xb7, 0xcc, 0x9a, 0x93, 0xca, 0xe4, 0x1f, 0x32, 0x62,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_constant_is_the_hash_of_nothing() {
        assert_eq!(hash(b""), EMPTY_HASH);
    }
}
