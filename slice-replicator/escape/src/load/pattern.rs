//! The byte pattern of `/bytes` and of the stream port: byte `i` of a stream can be checked without the others.

/// The byte at `offset` of the pattern.
pub fn pattern(offset: u64) -> u8 {
    (offset.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 47) as u8
}

/// Fills `bytes` with the pattern from `offset` on.
pub fn fill(offset: u64, bytes: &mut [u8]) {
    for (i, byte) in (0u64..).zip(bytes.iter_mut()) {
        *byte = pattern(offset.wrapping_add(i));
    }
}

/// How many of `bytes`, which begin at `offset` of a stream, differ from the pattern.
pub fn count_wrong(offset: u64, bytes: &[u8]) -> u64 {
    (0u64..).zip(bytes).filter(|&(i, &byte)| byte != pattern(offset.wrapping_add(i))).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_flipped_byte_is_counted() {
        let mut bytes = [0u8; 300];
        fill(1 << 40, &mut bytes);
        assert_eq!(count_wrong(1 << 40, &bytes), 0);
        bytes[7] ^= 1;
        assert_eq!(count_wrong(1 << 40, &bytes), 1);
        assert!(count_wrong(1 << 41, &bytes) > 200, "the pattern must not repeat at this distance");
    }
}
