//! The wire between clients and edge: perfect, or as bad as a client's network can be. Lost frames, frames that come twice, frames that come
//! late and behind others; a path that takes no large frames and does not say so.

use super::random::Random;
use anyhow::{Context, Result};
use escape_fabric::tap::{Tap, VNET_HEADER_LEN};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Of a hundred frames on a bad wire five are lost, three come twice, five come late.
const LOST: u64 = 5;
const TWICE: u64 = LOST + 3;
const LATE: u64 = TWICE + 5;
/// Of a perfect wire: none of these.
const FINE: u64 = 100;
/// How late.
const DELAY: Duration = Duration::from_millis(8);
/// Late frames that wait, each way; further ones are lost.
const LATE_MAX: usize = 256;
/// A wire looks at least so often whether it is to end.
const LOOK: Duration = Duration::from_millis(5);
/// Frames from one end before the other is looked at.
const FRAMES_MAX: usize = 64;
/// Ethernet's largest frame here, with the tap's header; a longer one is not carried.
const FRAME_MAX: usize = 2048;
/// The largest frame towards clients on a narrow path: 1,280 bytes, the least that any path of IPv6 takes, with Ethernet's and the tap's headers.
const NARROW_MAX: usize = 1280 + 14 + VNET_HEADER_LEN.unsigned_abs() as usize;
/// The edge's end of the wire.
const EDGE: usize = 1;

/// Carries frames until it is dropped.
pub struct ClientWire {
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    is_bad: AtomicBool,
    is_narrow: AtomicBool,
    ends: AtomicBool,
    lost: AtomicU64,
    too_large: AtomicU64,
}

impl ClientWire {
    /// A perfect wire between two taps, with the seed of what happens to frames when it is bad.
    pub fn between(clients: Tap, edge: Tap, seed: u64) -> Result<Self> {
        let state = Arc::new(State::default());
        let mut carrier = Carrier { ends: [clients, edge], late: [Vec::new(), Vec::new()], random: Random::new(seed) };
        let theirs = Arc::clone(&state);
        let thread = std::thread::Builder::new().name("client-wire".into()).spawn(move || carrier.carry(&theirs));
        Ok(Self { state, thread: Some(thread.context("the clients' wire")?) })
    }

    /// From now on it is bad, or perfect again. Returns the frames that were lost since it was told last.
    pub fn be_bad(&self, bad: bool) -> u64 {
        self.state.is_bad.store(bad, Ordering::Relaxed);
        self.state.lost.swap(0, Ordering::Relaxed)
    }

    /// From now on large frames for clients vanish without a word, or get through again: a tunnel on the way whose ICMP nobody hears. Returns
    /// those that vanished since it was told last.
    pub fn be_narrow(&self, narrow: bool) -> u64 {
        self.state.is_narrow.store(narrow, Ordering::Relaxed);
        self.state.too_large.swap(0, Ordering::Relaxed)
    }
}

impl Drop for ClientWire {
    fn drop(&mut self) {
        self.state.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing to tell.
            let _ = thread.join();
        }
    }
}

/// The thread's part.
struct Carrier {
    ends: [Tap; 2],
    /// Frames for each end, and when they are due.
    late: [Vec<(Instant, Vec<u8>)>; 2],
    random: Random,
}

impl Carrier {
    fn carry(&mut self, state: &State) {
        while !state.ends.load(Ordering::Relaxed) {
            let [clients, edge] = &self.ends;
            let mut ready = [PollFd::new(clients, PollFlags::IN), PollFd::new(edge, PollFlags::IN)];
            // Interrupted or not: whoever has a frame is looked at.
            let _ = poll(&mut ready, Timespec::try_from(LOOK).ok().as_ref());
            for from in [0, 1] {
                self.carry_from(from, state);
            }
            self.deliver_late();
        }
    }

    fn carry_from(&mut self, from: usize, state: &State) {
        let mut frame = [0; FRAME_MAX];
        for _ in 0..FRAMES_MAX {
            let end = self.ends.get(from);
            let Some(n) = end.and_then(|end| rustix::io::read(end.as_fd(), &mut frame).ok()) else { return };
            let frame = frame.get(..n).unwrap_or_default();
            if from == EDGE && n > NARROW_MAX && state.is_narrow.load(Ordering::Relaxed) {
                state.too_large.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let fate = if state.is_bad.load(Ordering::Relaxed) { self.random.below(100) } else { FINE };
            match fate {
                0..LOST => _ = state.lost.fetch_add(1, Ordering::Relaxed),
                LOST..TWICE => {
                    self.deliver(1 - from, frame);
                    self.deliver(1 - from, frame);
                }
                TWICE..LATE => self.delay(1 - from, frame),
                _ => self.deliver(1 - from, frame),
            }
        }
    }

    fn delay(&mut self, to: usize, frame: &[u8]) {
        if let Some(late) = self.late.get_mut(to)
            && late.len() < LATE_MAX
        {
            late.push((Instant::now() + DELAY, frame.to_vec()));
        }
    }

    fn deliver_late(&mut self) {
        let now = Instant::now();
        for to in [0, 1] {
            let due = self.late.get_mut(to).map(|late| late.extract_if(.., |(at, _)| *at <= now).collect::<Vec<_>>());
            due.unwrap_or_default().iter().for_each(|(_, frame)| self.deliver(to, frame));
        }
    }

    /// An interface that is full or down loses it, as a cable does.
    fn deliver(&self, to: usize, frame: &[u8]) {
        let _ = self.ends.get(to).map(|end| rustix::io::write(end.as_fd(), frame));
    }
}
