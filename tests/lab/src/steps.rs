//! What has passed.

use std::time::Instant;

/// The steps so far.
#[derive(Debug)]
pub struct Steps {
    done: u32,
    at: Instant,
}

impl Steps {
    /// The clock runs from now on.
    pub fn begin() -> Self {
        Self { done: 0, at: Instant::now() }
    }

    /// One more.
    pub fn passed(&mut self, what: &str) {
        self.done += 1;
        println!("lab: passed after {:5.1} s  {what}", self.at.elapsed().as_secs_f64());
    }

    /// How many.
    pub const fn done(&self) -> u32 {
        self.done
    }
}
