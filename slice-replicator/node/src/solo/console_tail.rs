//! The end of what the guest said, for the message that says why it stopped.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes kept.
const TAIL_BYTES_MAX: usize = 2048;

/// A sink for a guest's console that passes everything on and remembers the end.
#[derive(Clone, Debug, Default)]
pub(super) struct ConsoleTail {
    bytes: Arc<Mutex<VecDeque<u8>>>,
}

impl ConsoleTail {
    /// The last lines, or words that say that there are none.
    pub(super) fn text(&self) -> String {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(bytes.make_contiguous()).trim_end().to_owned();
        if text.is_empty() { "(nothing)".into() } else { text }
    }

    /// Whether anything was said.
    pub(super) fn has_text(&self) -> bool {
        !self.bytes.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Ends the line that the guest was stopped in the middle of: what is printed next has a line of its own.
    pub(super) fn end_line(&mut self) -> std::io::Result<()> {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let open = bytes.back().is_some_and(|last| *last != b'\n');
        drop(bytes);
        if open { self.write_all(b"\n") } else { Ok(()) }
    }
}

impl Write for ConsoleTail {
    fn write(&mut self, said: &[u8]) -> std::io::Result<usize> {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        bytes.extend(said);
        let excess = bytes.len().saturating_sub(TAIL_BYTES_MAX);
        bytes.drain(..excess);
        drop(bytes);
        std::io::stdout().lock().write_all(said)?;
        Ok(said.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stdout().lock().flush()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_is_kept() {
        let mut tail = ConsoleTail::default();
        assert_eq!(tail.text(), "(nothing)");
        for line in 0..1000 {
            writeln!(tail, "line {line}").unwrap();
        }
        assert!(tail.text().ends_with("line 999"));
        assert!(tail.text().len() <= TAIL_BYTES_MAX);
    }

    #[test]
    fn a_line_that_was_cut_off_is_ended_once() {
        let mut tail = ConsoleTail::default();
        tail.end_line().unwrap();
        assert_eq!(tail.bytes.lock().unwrap().len(), 0);
        write!(tail, "boot: entr").unwrap();
        tail.end_line().unwrap();
        tail.end_line().unwrap();
        assert_eq!(tail.bytes.lock().unwrap().make_contiguous(), b"boot: entr\n");
    }
}
