//! Lines to the serial console, few.

use crate::machine::port;
use core::arch::x86_64::_rdtsc;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Longest line, bytes: at 28 µs a byte on a nested host, 5.6 ms.
const LINE_BYTES_MAX: usize = 200;
/// Lines that may be written before time must pass.
const BURST_LINES: u32 = 32;
/// About two seconds on any machine: the limit needs no exact clock.
const REFILL_TICKS: u64 = 1 << 33;

static WRITTEN: AtomicU32 = AtomicU32::new(0);
static LEFT_OUT: AtomicU32 = AtomicU32::new(0);
static WINDOW: AtomicU64 = AtomicU64::new(0);

/// A line that stops at its limit.
struct Line {
    room: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes().take(self.room) {
            port::write8(port::SERIAL, byte);
        }
        self.room = self.room.saturating_sub(text.len());
        Ok(())
    }
}

/// Writes a line, or counts that it was left out. Use [`log!`](crate::log_line).
pub fn write_line(text: fmt::Arguments<'_>) {
    // SAFETY: RDTSC has no precondition.
    let now = unsafe { _rdtsc() };
    if now.wrapping_sub(WINDOW.load(Ordering::Relaxed)) > REFILL_TICKS {
        WINDOW.store(now, Ordering::Relaxed);
        WRITTEN.store(0, Ordering::Relaxed);
    }
    if WRITTEN.fetch_add(1, Ordering::Relaxed) >= BURST_LINES {
        LEFT_OUT.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let mut line = Line { room: LINE_BYTES_MAX };
    let left_out = LEFT_OUT.swap(0, Ordering::Relaxed);
    // Writing to the port cannot fail, and a `Display` that does has said what it could.
    if left_out > 0 {
        let _ = write!(line, "({left_out} lines left out) ");
    }
    let _ = line.write_fmt(text);
    port::write8(port::SERIAL, b'\n');
}
