//! TCP sequence numbers: comparison on the ring of 2^32 (RFC 9293, section 3.4), with a horizon.
//!
//! Plain "less than on the ring" believes a number that lies almost half the ring behind. What the valve asks is
//! narrower: *is this number covered by that frontier*, and a number farther than [`HORIZON`] behind is not old, it is
//! hostile. The logic is written for a ring of any width, so that the tests try every pair and triple of a small one.

/// Farthest distance behind a frontier that still counts as covered. No window reaches it (RFC 7323: at most 2^30).
pub const HORIZON: u32 = Ring::<32>::HORIZON;

/// `x` lies at or behind `frontier`, not farther than [`HORIZON`].
pub const fn covers(frontier: u32, x: u32) -> bool {
    Ring::<32>::covers(frontier, x)
}

/// `a` comes before `b` (less than half the ring ahead).
pub const fn before(a: u32, b: u32) -> bool {
    Ring::<32>::before(a, b)
}

/// `x` is within [`HORIZON`] of `frontier`, ahead or behind.
pub const fn near(frontier: u32, x: u32) -> bool {
    Ring::<32>::covers(frontier, x) || Ring::<32>::covers(x, frontier)
}

/// How far `to` lies ahead of `from`.
pub const fn ahead(from: u32, to: u32) -> u32 {
    Ring::<32>::ahead(from, to)
}

/// A ring of 2^BITS numbers.
struct Ring<const BITS: u32>;

impl<const BITS: u32> Ring<BITS> {
    const MASK: u32 = u32::MAX >> (32 - BITS);
    const HORIZON: u32 = 1 << (BITS - 2);
    const HALF: u32 = 1 << (BITS - 1);

    const fn ahead(from: u32, to: u32) -> u32 {
        to.wrapping_sub(from) & Self::MASK
    }
    const fn covers(frontier: u32, x: u32) -> bool {
        Self::ahead(x, frontier) <= Self::HORIZON
    }
    const fn before(a: u32, b: u32) -> bool {
        let d = Self::ahead(a, b);
        d != 0 && d < Self::HALF
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Small = Ring<8>;

    #[test]
    fn every_pair_agrees_with_unwrapped_numbers() {
        for base in 0i64..256 {
            for d in -128i64..128 {
                let (frontier, x) = ((base & 255) as u32, ((base + d) & 255) as u32);
                assert_eq!(Small::covers(frontier, x), (-64..=0).contains(&d), "frontier {frontier} x {x}");
                assert_eq!(Small::before(frontier, x), d > 0, "a {frontier} b {x}");
            }
        }
    }

    /// All 2^24 triples: a frontier that moves on keeps covering (release never takes back), and order is transitive
    /// within half a ring.
    #[test]
    fn every_triple_is_consistent() {
        for a in 0u32..256 {
            for b in 0u32..256 {
                let ab = Small::ahead(a, b);
                for c in 0u32..256 {
                    let bc = Small::ahead(b, c);
                    if Small::covers(b, a) && ab + bc <= Small::HORIZON {
                        assert!(Small::covers(c, a), "{a} {b} {c}");
                    }
                    if Small::before(a, b) && Small::before(b, c) && ab + bc < Small::HALF {
                        assert!(Small::before(a, c), "{a} {b} {c}");
                    }
                    assert!(!(Small::before(a, b) && Small::before(b, a)));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn the_full_ring_agrees_with_unwrapped_numbers(base in any::<u32>(), d in -0x7fff_ffffi64..0x7fff_ffff) {
            let x = (i64::from(base) + d) as u32;
            prop_assert_eq!(covers(base, x), (-i64::from(HORIZON)..=0).contains(&d));
            prop_assert_eq!(before(base, x), d > 0);
            prop_assert_eq!(near(base, x), d.unsigned_abs() <= u64::from(HORIZON));
        }
    }
}
