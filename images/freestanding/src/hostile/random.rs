//! Numbers that look random and are the same in every run.

/// A xorshift generator (Marsaglia, 2003).
pub struct Random(u64);

impl Random {
    /// A generator; equal seeds give equal numbers. 0 counts as 1.
    pub const fn new(seed: u64) -> Self {
        Self(if seed == 0 { 1 } else { seed })
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
