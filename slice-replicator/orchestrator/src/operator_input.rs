//! Questions on standard input, one a line, each answered by one line of JSON on standard output.

use crate::error::ProcessError;
use mio::Waker;
use std::io::{BufRead, Read, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Longest line, bytes; a longer one is taken apart at this length.
const LINE_BYTES_MAX: u64 = 256;
/// Lines that may wait. Full: the reader waits, and with it the asker.
const LINES_MAX: usize = 16;

/// A thread that reads standard input and wakes the loop.
#[derive(Debug)]
pub(crate) struct OperatorInput {
    lines: Receiver<String>,
}

impl OperatorInput {
    /// Starts the thread; it ends with the input, or with the process.
    pub(crate) fn start(waker: Arc<Waker>) -> Result<Self, ProcessError> {
        let (sender, lines) = sync_channel(LINES_MAX);
        std::thread::Builder::new()
            .name("stdin".into())
            .spawn(move || read_lines(&sender, &waker))
            .map_err(ProcessError::system("thread for standard input"))?;
        Ok(Self { lines })
    }

    /// A question, if one was asked.
    pub(crate) fn next(&self) -> Option<String> {
        self.lines.try_recv().ok()
    }

    /// Answers it.
    pub(crate) fn answer(answer: &serde_json::Value) {
        // Whoever asked may be gone; that is no reason to end.
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{answer}").and_then(|()| out.flush());
    }
}

fn read_lines(lines: &SyncSender<String>, waker: &Waker) {
    let mut input = std::io::stdin().lock();
    loop {
        let mut line = Vec::new();
        match (&mut input).take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
            Ok(1..) => {}
            _ => return,
        }
        let line = String::from_utf8_lossy(&line).trim().to_owned();
        if !line.is_empty() && (lines.send(line).is_err() || waker.wake().is_err()) {
            return;
        }
    }
}
