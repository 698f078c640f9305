//! Where the guest's console goes: whole lines, and no more of them than a host can bear.

use std::io::{self, Write};
use std::time::Instant;

/// Bytes let through at once.
const BURST_BYTES: u64 = 1 << 20;
/// Bytes per second in the long run.
const SUSTAINED_BYTES_PER_S: u64 = 64 << 10;
/// A line is passed on at its end or at this length.
const LINE_BYTES_MAX: usize = 512;

/// A bounded console. What the guest writes beyond the bound is dropped, counted, and said so once it is over.
pub struct Console {
    sink: Box<dyn Write + Send>,
    line: Vec<u8>,
    /// Bytes after which a line is passed on, ended or not.
    pass_on_at: usize,
    budget_bytes: u64,
    refilled: Instant,
    /// Dropped and not said yet.
    unsaid_bytes: u64,
    dropped_bytes: u64,
}

impl Console {
    /// A console that writes to `sink`, on the vCPU's thread: a sink that blocks stops the guest.
    pub fn new(sink: Box<dyn Write + Send>) -> Self {
        Self {
            sink,
            line: Vec::with_capacity(LINE_BYTES_MAX),
            pass_on_at: LINE_BYTES_MAX,
            budget_bytes: BURST_BYTES,
            refilled: Instant::now(),
            unsaid_bytes: 0,
            dropped_bytes: 0,
        }
    }

    /// The same for a person at a terminal, who waits for prompts without an end: every byte is passed on at once.
    pub fn terminal(sink: Box<dyn Write + Send>) -> Self {
        Self { pass_on_at: 1, ..Self::new(sink) }
    }

    /// A console that nobody reads.
    pub fn none() -> Self {
        Self::new(Box::new(io::sink()))
    }

    /// Bytes dropped so far.
    pub fn dropped_bytes(&self) -> u64 {
        self.dropped_bytes
    }

    /// Passes on a line that has no end yet (when the guest stops or waits for input).
    pub fn flush_line(&mut self) {
        let _ = self.pass_on();
    }

    fn refill(&mut self) {
        let ms = u64::try_from(self.refilled.elapsed().as_millis()).unwrap_or(u64::MAX);
        let earned = ms.saturating_mul(SUSTAINED_BYTES_PER_S) / 1000;
        if earned > 0 {
            self.refilled = Instant::now();
            self.budget_bytes = self.budget_bytes.saturating_add(earned).min(BURST_BYTES);
        }
    }

    fn pass_on(&mut self) -> io::Result<()> {
        if self.line.is_empty() {
            return Ok(());
        }
        self.refill();
        let bytes = self.line.len() as u64;
        if bytes > self.budget_bytes {
            self.unsaid_bytes += bytes;
            self.dropped_bytes += bytes;
            self.line.clear();
            return Ok(());
        }
        self.budget_bytes -= bytes;
        let dropped = std::mem::take(&mut self.unsaid_bytes);
        if dropped > 0 {
            writeln!(self.sink, "[{dropped} bytes of console output dropped]")?;
        }
        let result = self.sink.write_all(&self.line).and_then(|()| self.sink.flush());
        self.line.clear();
        result
    }
}

impl std::fmt::Debug for Console {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Console").field("dropped_bytes", &self.dropped_bytes).finish_non_exhaustive()
    }
}

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for byte in bytes {
            self.line.push(*byte);
            if *byte == b'\n' || self.line.len() >= self.pass_on_at {
                self.pass_on()?;
            }
        }
        Ok(bytes.len())
    }

    /// The port flushes after every byte; lines are what is passed on.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, b: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(b);
            Ok(b.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_come_whole() {
        let out = Shared::default();
        let mut c = Console::new(Box::new(out.clone()));
        c.write_all(b"hel").unwrap();
        assert_eq!(out.0.lock().unwrap().as_slice(), b"");
        c.write_all(b"lo\nrest").unwrap();
        assert_eq!(out.0.lock().unwrap().as_slice(), b"hello\n");
        c.flush_line();
        assert_eq!(out.0.lock().unwrap().as_slice(), b"hello\nrest");
    }

    #[test]
    fn a_flood_is_dropped_and_counted() {
        let out = Shared::default();
        let mut c = Console::new(Box::new(out.clone()));
        for _ in 0..64 {
            c.write_all(&[b'x'; 1 << 16]).unwrap();
        }
        let passed = out.0.lock().unwrap().iter().filter(|b| **b == b'x').count() as u64;
        assert!(passed < 2 * BURST_BYTES, "{passed}");
        assert_eq!(passed + c.dropped_bytes(), 64 << 16);
    }
}
