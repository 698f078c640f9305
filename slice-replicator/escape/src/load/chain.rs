//! The client's own computation of the session chain. Every reply carries `X-Chain`, a hash over all requests of the
//! connection in order; a server that lost, doubled or reordered one request can no longer produce it.
//!
//! `H_0` = 32 zero bytes, `H_k = BLAKE3(H_{k-1} ‖ method ‖ ' ' ‖ target ‖ ' ' ‖ BLAKE3(body))`.

/// One link of the chain.
pub type Hash = [u8; 32];

/// The chain before the first request.
pub const START: Hash = [0; 32];

/// What of a request enters the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// `method ‖ ' ' ‖ target ‖ ' '`.
    line: Box<[u8]>,
    body: Hash,
}

impl Link {
    /// The link of a request.
    pub fn new(method: &str, target: &str, body: &[u8]) -> Self {
        let mut line = Vec::with_capacity(method.len() + target.len() + 2);
        line.extend_from_slice(method.as_bytes());
        line.push(b' ');
        line.extend_from_slice(target.as_bytes());
        line.push(b' ');
        Self { line: line.into(), body: *blake3::hash(body).as_bytes() }
    }

    /// The chain after this request, given the chain before it.
    pub fn after(&self, previous: &Hash) -> Hash {
        let mut hasher = blake3::Hasher::new();
        hasher.update(previous).update(&self.line).update(&self.body);
        *hasher.finalize().as_bytes()
    }
}

/// Reads 64 hexadecimal digits.
pub fn from_hex(text: &[u8]) -> Option<Hash> {
    let (pairs, rest) = text.as_chunks::<2>();
    if text.len() != 64 || !rest.is_empty() {
        return None;
    }
    let mut hash = START;
    for (byte, &[high, low]) in hash.iter_mut().zip(pairs) {
        *byte = digit(high)? << 4 | digit(low)?;
    }
    Some(hash)
}

fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        b'A'..=b'F' => Some(character - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_the_documented_formula() {
        let link = Link::new("PUT", "/kv/a", b"value");
        let mut text = START.to_vec();
        text.extend_from_slice(b"PUT /kv/a ");
        text.extend_from_slice(blake3::hash(b"value").as_bytes());
        assert_eq!(link.after(&START), *blake3::hash(&text).as_bytes());
    }

    #[test]
    fn hex_is_exactly_64_digits() {
        let hash = Link::new("GET", "/session", b"").after(&START);
        let text: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(from_hex(text.as_bytes()).unwrap(), hash);
        assert!(from_hex(&text.as_bytes()[1..]).is_none());
        assert!(from_hex(text.replace(&text[3..4], "+").as_bytes()).is_none());
    }
}
