//! The hash chain of a slice's checkpoints: `H = BLAKE3(H_prev ‖ body)`.
//!
//! Owner and standby compute it each for itself. The standby refuses a body that does not continue its chain, and its
//! acknowledgement carries the hash, so that both ends know that they hold the same history, not only the same last step.

/// A link of the chain.
pub type ChainHash = [u8; 32];

/// The link before the first; also the predecessor under which a full copy is hashed, because its receiver has no history.
pub const CHAIN_START: ChainHash = [0; 32];

/// The link after `previous` for `body`.
pub fn next_link(previous: &ChainHash, body: &[u8]) -> ChainHash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(previous);
    hasher.update(body);
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depends_on_history_and_body() {
        let a = next_link(&CHAIN_START, b"body");
        assert_eq!(a, *blake3::hash(&[&CHAIN_START[..], b"body"].concat()).as_bytes());
        assert_ne!(next_link(&a, b"body"), a);
        assert_ne!(next_link(&CHAIN_START, b"bodY"), a);
    }
}
