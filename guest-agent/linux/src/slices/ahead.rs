//! Connections that are made ahead of their turn.
//!
//! After a failure the host's ring brings one `Plug` behind the other. Most of a plug is the making of the connection, which touches
//! nothing but the kernel: so the messages that wait are looked at, not taken, their connections are made by several threads, and the
//! keeper gets them with one message. They say nothing yet. Then each message is taken and done by itself, as any other: an agent that ends
//! in between has done nothing of those that are left, and its successor drops what the keeper has of them.

use super::agent::Agent;
use super::asking::goes_out_at_once;
use escape_abi::HostMessage;
use escape_capsule::SliceKey;
use escape_process::ProcessError;
use escape_tcp::{Prepared, TcpCapsule};
use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread::{Builder, available_parallelism, scope};

/// Connections made at once: the first waits for the last of them, some 10 us each.
const AHEAD_MAX: u32 = 128;
/// Fewer are made when it is their turn.
const AHEAD_MIN: usize = 8;
/// Each thread costs about as much as three connections.
const EACH_THREAD_MIN: usize = 16;
/// More threads do not make a kernel faster that shares its tables among them.
const THREADS_MAX: usize = 4;

/// A connection that says nothing yet.
#[derive(Debug)]
pub struct Made {
    key: SliceKey,
    capsule: TcpCapsule,
    prepared: Prepared,
}

impl Made {
    /// It goes on.
    ///
    /// # Errors
    /// The kernel does not take it.
    pub fn begin(self) -> Result<OwnedFd, ProcessError> {
        Ok(self.capsule.begin(self.prepared)?)
    }
}

impl AsFd for Made {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.prepared.as_fd()
    }
}

/// Connections by slot: at most [`AHEAD_MAX`], each with its unsent output, which is less than a slot.
#[derive(Debug)]
pub struct Ahead {
    made: HashMap<u32, Made>,
    /// Messages that were looked at and are not taken yet.
    looked_at: u32,
    threads: usize,
}

impl Ahead {
    /// None, to be made by as many threads as this machine has processors.
    pub fn new() -> Self {
        let threads = available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        Self { made: HashMap::new(), looked_at: 0, threads }
    }

    /// The host's next message was taken.
    pub const fn pass(&mut self) {
        self.looked_at = self.looked_at.saturating_sub(1);
    }

    /// The connection of a slice whose turn it is.
    pub fn take(&mut self, key: SliceKey) -> Option<Made> {
        self.made.remove(&key.slot).filter(|made| made.key == key)
    }
}

impl Agent {
    /// Makes the connections of the `Plug` messages that wait, if there are many; each message is looked at once. What cannot be
    /// made is tried again in its turn, which says why.
    pub(super) fn make_ahead(&mut self) {
        if self.ahead.looked_at > 0 {
            return;
        }
        let waiting = (0..AHEAD_MAX).map_while(|before| match self.host.peek(before) {
            Some(HostMessage::Plug { slot, incarnation }) => Some(SliceKey { slot, incarnation }),
            _ => None,
        });
        let waiting: Vec<SliceKey> = waiting.collect();
        self.ahead.looked_at = u32::try_from(waiting.len()).unwrap_or(AHEAD_MAX);
        if waiting.len() < AHEAD_MIN {
            return;
        }
        let wanted = waiting.into_iter().filter_map(|key| Some((key, self.capsule_of(key)?))).collect();
        let made = make_all(wanted, self.ahead.threads);
        let connections: Vec<_> = made.iter().map(|made| (made.key.slot, made.as_fd())).collect();
        self.kept.keep_connections(&connections);
        self.ahead.made = made.into_iter().map(|made| (made.key.slot, made)).collect();
    }

    /// The connection of a slice that can be plugged, and whose client need not be asked.
    fn capsule_of(&self, key: SliceKey) -> Option<TcpCapsule> {
        let state = self.state_of(key).ok()?;
        let can_be_made = self.places.has_room_for(key, &state.tcp.flow) && goes_out_at_once(&state.tcp);
        can_be_made.then(|| self.capsule_at(key.slot, &state.tcp))
    }
}

fn make_all(mut wanted: Vec<(SliceKey, TcpCapsule)>, threads: usize) -> Vec<Made> {
    let n = (wanted.len() / EACH_THREAD_MIN).clamp(1, threads);
    let each = wanted.len().div_ceil(n);
    scope(|scope| {
        let mut others = Vec::new();
        while wanted.len() > each {
            let some = wanted.split_off(wanted.len() - each);
            // A machine without another thread makes fewer ahead.
            others.extend(Builder::new().spawn_scoped(scope, move || make(some)));
        }
        let mut made = make(wanted);
        others.into_iter().filter_map(|other| other.join().ok()).for_each(|more| made.extend(more));
        made
    })
}

fn make(wanted: Vec<(SliceKey, TcpCapsule)>) -> Vec<Made> {
    let prepare = |(key, capsule): (SliceKey, TcpCapsule)| {
        let prepared = capsule.prepare().ok()?;
        Some(Made { key, capsule, prepared })
    };
    wanted.into_iter().filter_map(prepare).collect()
}
