//! The generator's only source of randomness: SplitMix64 (Steele, Lea, Flood 2014). Small state, one per session, and
//! a run is replayed by its seed.

/// A seeded sequence of numbers.
#[derive(Clone, Debug)]
pub struct Seeded(u64);

impl Seeded {
    /// The sequence number `index` of a run: sessions draw from sequences of their own, so that one session's
    /// requests do not depend on the timing of another's.
    pub fn new(seed: u64, index: u64) -> Self {
        let mut first = Self(seed ^ index.wrapping_mul(0xD1B5_4A32_D192_ED03));
        Self(first.draw())
    }

    /// The next number, all 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number in `0..bound` (0 when the bound is 0).
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.draw()) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_sequence_for_seed_1234567() {
        let mut numbers = Seeded(1_234_567);
        assert_eq!(numbers.draw(), 6_457_827_717_110_365_317);
        assert_eq!(numbers.draw(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn below_stays_below() {
        let mut numbers = Seeded::new(1, 2);
        assert!((0..10_000).all(|_| numbers.below(7) < 7));
        assert_eq!(numbers.below(0), 0);
    }
}
