//! A console: lines that come, and keys that are typed.

use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::process::{ChildStdin, ChildStdout};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

/// Pieces that may wait to be looked at; the reader waits when there are more.
const PIECES_MAX: usize = 1024;
/// Bytes of the end that an error shows.
const TAIL_BYTES: usize = 4000;

/// Both ends.
#[derive(Debug)]
pub struct Console {
    keys: ChildStdin,
    pieces: Receiver<Vec<u8>>,
    /// What was said: all that was not looked at, and at most [`TAIL_BYTES`] before it.
    said: String,
    /// Up to where it was looked at.
    seen: usize,
}

impl Console {
    /// The console of a program that was just started.
    pub fn of(keys: ChildStdin, mut words: ChildStdout, verbose: bool) -> Self {
        let (to, pieces) = sync_channel(PIECES_MAX);
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(n @ 1..) = words.read(&mut piece) {
                let bytes = piece.get(..n).unwrap_or_default();
                if verbose {
                    // Only for people.
                    let _ = std::io::stdout().write_all(bytes);
                }
                if to.send(bytes.to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { keys, pieces, said: String::new(), seen: 0 }
    }

    /// Waits until the console says this, behind all that was waited for before.
    pub fn wait_for(&mut self, text: &str, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            let unseen = self.said.get(self.seen..).unwrap_or_default();
            if let Some(at) = unseen.find(text) {
                self.seen += at + text.len();
                self.forget_old();
                return Ok(());
            }
            match self.pieces.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(piece) => self.said.push_str(&String::from_utf8_lossy(&piece)),
                Err(RecvTimeoutError::Timeout) => bail!("{text:?} was not said within {limit:?}"),
                Err(RecvTimeoutError::Disconnected) => bail!("the console ended before it said {text:?}"),
            }
        }
    }

    /// Types a line.
    pub fn type_line(&mut self, line: &str) -> Result<()> {
        self.keys.write_all(format!("{line}\n").as_bytes()).and_then(|()| self.keys.flush()).context("typing")
    }

    /// The end of what was said.
    pub fn tail(&self) -> &str {
        self.said.get(last_bytes(&self.said, TAIL_BYTES)..).unwrap_or_default()
    }

    fn forget_old(&mut self) {
        let seen = self.said.get(..self.seen).unwrap_or_default();
        let old = last_bytes(seen, TAIL_BYTES);
        self.said.drain(..old);
        self.seen -= old;
    }
}

/// Where the last so many bytes of a text begin, or a little later, at a character.
fn last_bytes(text: &str, bytes: usize) -> usize {
    let from = text.len().saturating_sub(bytes);
    (from..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len())
}
