//! An interactive client: somebody who types, waits for each answer, and thinks a little, from before the first fault to after the last.

use super::clients::Session;
use anyhow::{Context, Result, anyhow};
use escape_fabric::netns::NetNs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

/// Thoughts take 40 ms to 240 ms.
const THOUGHT_MIN_MS: u64 = 40;
const THOUGHT_SPREAD_MS: u64 = 200;

/// The typist; stops when it is dropped.
pub struct Typist {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Typed>>>,
}

/// What was typed.
#[derive(Clone, Copy, Debug)]
pub struct Typed {
    /// Keys, each with its own answer, on one connection.
    pub keys: u64,
    /// The longest wait for an answer.
    pub longest: Duration,
}

impl Typist {
    /// Sits down.
    pub fn begin(clients: &NetNs) -> Result<Self> {
        let mut session = Session::open(clients)?;
        let is_over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&is_over);
        let work = move || {
            let mut keys = 0;
            while !until.load(Ordering::Relaxed) {
                session.count().with_context(|| format!("key {keys}"))?;
                keys += 1;
                // No two thoughts after each other are equally long.
                sleep(Duration::from_millis(THOUGHT_MIN_MS + keys * 67 % THOUGHT_SPREAD_MS));
            }
            Ok(Typed { keys, longest: session.longest })
        };
        let thread = std::thread::Builder::new().name("typist".into()).spawn(work).context("a typist")?;
        Ok(Self { is_over, thread: Some(thread) })
    }

    /// Gets up. An answer that was wrong or missing is told here.
    pub fn end(mut self) -> Result<Typed> {
        self.is_over.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("a typist")?;
        thread.join().map_err(|_| anyhow!("the typist has panicked"))?.context("somebody who types")
    }
}

impl Drop for Typist {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}
