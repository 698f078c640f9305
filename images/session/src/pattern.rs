//! The checked byte pattern: any byte of a stream can be verified from its offset alone.

/// The byte at an offset.
pub const fn pattern(offset: u64) -> u8 {
    (offset.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 47) as u8
}

/// Fills `into` with the pattern from `offset` on.
pub fn fill(into: &mut [u8], offset: u64) {
    for (byte, at) in into.iter_mut().zip(offset..) {
        *byte = pattern(at);
    }
}

/// How many bytes differ from the pattern from `offset` on.
pub fn count_wrong(bytes: &[u8], offset: u64) -> u64 {
    bytes.iter().zip(offset..).map(|(byte, at)| u64::from(*byte != pattern(at))).sum()
}
