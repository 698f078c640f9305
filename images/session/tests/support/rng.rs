//! The tests' own randomness.

pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// Seeds of smoltcp's own generator, turned round.
pub struct Seeds;

impl Seeds {
    /// The seed with which the first connection of a smoltcp interface begins at `isn`, its second draw. Its generator (sPCG32) makes
    /// s' = s·M + A and shows s' >> 29 when the top three bits of s' are 0.
    pub fn for_isn(isn: u32) -> u64 {
        const M: u64 = 0xbb2e_fcec_3c39_611d;
        const A: u64 = 0x7590_ef39;
        // M's inverse modulo 2^64, by Newton: each round doubles the bits that are right, and M·M = 1 modulo 8.
        let inverse = (0..5).fold(M, |x, _| x.wrapping_mul(2u64.wrapping_sub(M.wrapping_mul(x))));
        let back = |s: u64| s.wrapping_sub(A).wrapping_mul(inverse);
        back(back(u64::from(isn) << 29))
    }
}
