//! A checkpoint's bytes on the wire: a flag, for full copies their own hash, and the VMM's body.
//!
//! A delta is verified by the chain hash in its head. A full copy continues the sender's chain without knowing its
//! links, so it brings a hash of its own.

use escape_vmm::commit::Checkpoint;

const FULL: u8 = 1;

/// Appends the wire form of a body; `own_hash` exactly for full copies.
pub fn write(out: &mut Vec<u8>, own_hash: Option<&[u8; 32]>, body: &[u8]) {
    out.clear();
    match own_hash {
        Some(hash) => {
            out.push(FULL);
            out.extend_from_slice(hash);
        }
        None => out.push(0),
    }
    out.extend_from_slice(body);
}

/// The body, and its place in the slice's history, given number and chain hash of the head. `None`: too short.
pub fn read(wire: &[u8], number: u64, base: u64, chain: [u8; 32]) -> Option<(Checkpoint, &[u8])> {
    let (flags, rest) = wire.split_first()?;
    if *flags & FULL == 0 {
        return Some((Checkpoint { number, base, hash: chain }, rest));
    }
    let (hash, body) = rest.split_first_chunk::<32>()?;
    Some((Checkpoint { number, base: 0, hash: *hash }, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_are_read_back_and_short_ones_refused() {
        let mut wire = Vec::new();
        write(&mut wire, None, b"delta");
        assert_eq!(read(&wire, 7, 6, [9; 32]), Some((Checkpoint { number: 7, base: 6, hash: [9; 32] }, &b"delta"[..])));
        write(&mut wire, Some(&[4; 32]), b"full");
        assert_eq!(read(&wire, 7, 6, [9; 32]), Some((Checkpoint { number: 7, base: 0, hash: [4; 32] }, &b"full"[..])));
        assert_eq!(read(&wire[..32], 7, 6, [9; 32]), None);
        assert_eq!(read(&[], 7, 6, [9; 32]), None);
    }
}
