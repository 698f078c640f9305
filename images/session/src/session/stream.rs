//! The checked byte stream (protocol: see the crate's documentation).

use crate::pattern;
use crate::tcp::Pipe;

/// Bytes of the trailer.
const TRAILER: usize = 16;

/// State of a stream.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct StreamState {
    received: u64,
    wrong: u64,
    sent: u64,
    done: u32,
}

impl StreamState {
    pub(crate) const fn new() -> Self {
        Self { received: 0, wrong: 0, sent: 0, done: 0 }
    }

    /// Does all that can be done now; `true` if anything came in.
    pub(crate) fn run(&mut self, pipe: &mut Pipe<'_>) -> bool {
        let before = self.received;
        while pipe.available() > 0 {
            let read = pipe.read(|bytes| {
                self.wrong += pattern::count_wrong(bytes, self.received);
                self.received += bytes.len() as u64;
                (bytes.len(), ())
            });
            if read.is_none() {
                break;
            }
        }
        if self.done != 0 {
            return before != self.received;
        }
        if pipe.at_end() {
            if pipe.space() >= TRAILER {
                pipe.write(&self.received.to_le_bytes());
                pipe.write(&self.wrong.to_le_bytes());
                pipe.close();
                self.done = 1;
            }
        } else {
            while pipe.space() > 0 {
                let at = self.sent;
                let n = pipe.fill(|space| {
                    pattern::fill(space, at);
                    space.len()
                });
                self.sent += n as u64;
                if n == 0 {
                    break;
                }
            }
        }
        before != self.received
    }

    /// Ends a stream whose client is idle.
    pub(crate) fn close(&mut self, pipe: &mut Pipe<'_>) {
        self.done = 1;
        pipe.close();
    }
}
