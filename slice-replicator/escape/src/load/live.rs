//! Figures of the running generator that any thread may read at any time.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Written by the generator's thread alone; each figure is right by itself, no two belong to one instant.
#[derive(Debug, Default)]
pub struct Live {
    /// Sessions open.
    pub open: AtomicU64,
    /// Sessions given up after a violation, or not opened.
    pub gone: AtomicU64,
    /// Requests in flight.
    pub in_flight: AtomicU64,
    /// Requests sent.
    pub requests: AtomicU64,
    /// Sessions of the failed node without a right byte since the fault.
    pub waiting: AtomicU64,
    /// The first violation in words.
    pub first_violation: OnceLock<String>,
}

impl Live {
    /// Requests in flight now.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Relaxed)
    }

    /// Sets one figure.
    pub(super) fn set(figure: &AtomicU64, value: u64) {
        figure.store(value, Relaxed);
    }

    /// Reads one figure.
    pub fn get(figure: &AtomicU64) -> u64 {
        figure.load(Relaxed)
    }
}
