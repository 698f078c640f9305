//! Sequence numbers of TCP (RFC 9293, section 3.4): modulo 2^32.

/// `a` comes before `b`.
pub(crate) const fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// The later of the two.
pub(crate) const fn later(a: u32, b: u32) -> u32 {
    if before(a, b) { b } else { a }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_wraps() {
        assert!(before(u32::MAX, 0) && before(5, 6) && !before(6, 5) && !before(7, 7));
        assert_eq!(later(u32::MAX - 1, 3), 3);
    }
}
