//! Clients that go on by themselves beside whatever happens to the hosts, from before the first fault to after the last.

use super::clients::Session;
use super::random::Random;
use anyhow::{Context, Result, anyhow, ensure};
use escape_fabric::netns::NetNs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

/// Somebody who types, key by key, with a thought between (milliseconds), all on one connection.
const THOUGHT_MS: (u64, u64) = (40, 240);
/// Somebody who calls again and again: how long until the next call (milliseconds).
const CALL_MS: (u64, u64) = (20, 120);
/// Requests of a call.
const CALL_REQUESTS: u64 = 2;

/// The clients; they stop when this is dropped.
pub struct Beside {
    is_over: Arc<AtomicBool>,
    threads: Vec<(&'static str, JoinHandle<Result<Done>>)>,
}

/// What one of them has done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    /// Keys, or calls.
    pub count: u64,
    /// The longest wait for an answer; a call's connection counts.
    pub longest: Duration,
}

/// What they have done.
#[derive(Clone, Copy, Debug, Default)]
pub struct BesideDone {
    /// Keys that were typed, each with its own answer.
    pub typed: Done,
    /// Connections that were opened, asked, and closed by their client.
    pub called: Done,
}

impl Beside {
    /// They begin.
    pub fn begin(clients: &NetNs, seed: u64) -> Result<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let mut beside = Self { is_over: Arc::clone(&is_over), threads: Vec::new() };
        let session = Session::open(clients)?;
        let until = Arc::clone(&is_over);
        beside.start("typist", move || type_keys(session, Random::new(seed), &until))?;
        let clients = clients.try_clone()?;
        beside.start("caller", move || call(&clients, Random::new(seed), &is_over))?;
        Ok(beside)
    }

    fn start(&mut self, name: &'static str, work: impl FnOnce() -> Result<Done> + Send + 'static) -> Result<()> {
        let thread = std::thread::Builder::new().name(name.into()).spawn(work).context(name)?;
        self.threads.push((name, thread));
        Ok(())
    }

    /// None of them has met an answer that was wrong or missing so far.
    pub fn go_on(&self) -> bool {
        !self.threads.iter().any(|(_, thread)| thread.is_finished())
    }

    /// They stop. An answer that was wrong or missing is told here.
    pub fn end(mut self) -> Result<BesideDone> {
        self.is_over.store(true, Ordering::Relaxed);
        let mut done = BesideDone::default();
        for (name, thread) in self.threads.drain(..) {
            let of_it = thread.join().map_err(|_| anyhow!("the {name} has panicked"))?.context(name)?;
            if name == "typist" { done.typed = of_it } else { done.called = of_it }
        }
        Ok(done)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

fn type_keys(mut session: Session, mut random: Random, is_over: &AtomicBool) -> Result<Done> {
    let mut count = 0;
    while !is_over.load(Ordering::Relaxed) {
        session.count().with_context(|| format!("key {count}"))?;
        count += 1;
        sleep(random.millis(THOUGHT_MS.0, THOUGHT_MS.1));
    }
    Ok(Done { count, longest: session.longest })
}

/// A machine that dies has some of these connections at every stage: their SYN, the answer to it, the first request, the end (T12, T13).
fn call(clients: &NetNs, mut random: Random, is_over: &AtomicBool) -> Result<Done> {
    let mut done = Done::default();
    while !is_over.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let mut session = Session::open(clients).with_context(|| format!("call {}", done.count))?;
        let opened = begun.elapsed();
        for request in 0..CALL_REQUESTS {
            session.count().with_context(|| format!("call {}, request {request}", done.count))?;
        }
        let longest = opened.max(session.longest);
        let rest = session.end().with_context(|| format!("the end of call {}", done.count))?;
        ensure!(rest == 0, "call {}: {rest} bytes that nobody asked for", done.count);
        done = Done { count: done.count + 1, longest: done.longest.max(longest) };
        sleep(random.millis(CALL_MS.0, CALL_MS.1));
    }
    Ok(done)
}
