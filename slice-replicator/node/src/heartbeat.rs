//! Signs of life, on a thread of their own with real-time priority where that is allowed.
//!
//! The thread carries the data thread's progress: beats that arrive while `data_turns` stands still mean "hung".

use crate::clock::now_us;
use crate::error::NodeError;
use escape_engine::{Suspicion, SuspicionConfig};
use escape_proto::{Beat, Incarnation, Member, NodeId};
use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

/// Changes of the watch list that may wait for the thread. Full: the sender tries again at its next tick.
const WATCH_CHANGES_MAX: usize = 64;
/// Longest time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// Datagrams read per wake-up, so that a flood cannot keep the thread from sending.
const BEATS_PER_TURN_MAX: usize = 64;

/// What data thread and heartbeat thread share.
#[derive(Debug, Default)]
pub struct Pulse {
    /// Turns of the data thread.
    pub data_turns: AtomicU64,
    /// This node's life; 0 = not joined, no beats are sent.
    pub inc: AtomicU64,
    /// Nodes that this one suspects, a bit each.
    pub suspects: AtomicU32,
    /// When `suspects` changed last, microseconds.
    pub suspects_at_us: AtomicU64,
    /// Datagrams that were no beat of this cell.
    pub forged: AtomicU64,
    stop: AtomicBool,
}

/// What the thread needs.
pub struct HeartbeatConfig {
    /// This node.
    pub me: NodeId,
    /// Bound socket.
    pub listen: SocketAddr,
    /// Orchestrator and peers.
    pub to: Vec<SocketAddr>,
    /// The cell's key.
    pub key: [u8; 32],
    /// Between beats.
    pub every: Duration,
    /// Limits of suspicion.
    pub suspicion: SuspicionConfig,
}

/// The running thread; stops when dropped.
pub struct Heartbeat {
    pulse: Arc<Pulse>,
    watch: SyncSender<Watch>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Clone, Copy, Debug)]
enum Watch {
    Start(Member),
    Forget(NodeId),
    Hint(Member),
}

impl Heartbeat {
    /// Binds the socket and starts the thread.
    ///
    /// # Errors
    /// The address cannot be bound, or no thread can be made.
    pub fn start(config: HeartbeatConfig) -> Result<Self, NodeError> {
        let mut socket =
            UdpSocket::bind(config.listen).map_err(|source| NodeError::Listen { address: config.listen, source })?;
        // epoll waits by high-resolution timers; a socket's own timeout is rounded up to scheduler ticks, which is
        // longer than the silence that is to be noticed.
        let poll = Poll::new().map_err(NodeError::os("heartbeat epoll"))?;
        poll.registry()
            .register(&mut socket, Token(0), Interest::READABLE)
            .map_err(NodeError::os("heartbeat socket"))?;
        let pulse = Arc::new(Pulse::default());
        let (watch, changes) = sync_channel(WATCH_CHANGES_MAX);
        let shared = Arc::clone(&pulse);
        let thread = std::thread::Builder::new()
            .name("heartbeat".into())
            .spawn(move || beat_loop(&config, &socket, poll, &shared, &changes))
            .map_err(NodeError::os("heartbeat thread"))?;
        Ok(Self { pulse, watch, thread: Some(thread) })
    }

    /// The shared counters.
    pub fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// Watches this life of a node from now on. False: try again later.
    pub fn watch(&self, member: Member) -> bool {
        self.change(Watch::Start(member))
    }

    /// Stops watching a node. False: try again later.
    pub fn forget(&self, node: NodeId) -> bool {
        self.change(Watch::Forget(node))
    }

    /// The link to this node broke: a hint, no more.
    pub fn hint(&self, member: Member) {
        self.change(Watch::Hint(member));
    }

    fn change(&self, change: Watch) -> bool {
        !matches!(self.watch.try_send(change), Err(TrySendError::Full(_)))
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.pulse.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panicked heartbeat has already ended the process (panic = abort).
            let _ = thread.join();
        }
    }
}

fn beat_loop(config: &HeartbeatConfig, socket: &UdpSocket, mut poll: Poll, pulse: &Pulse, changes: &Receiver<Watch>) {
    crate::priority::real_time();
    let mut events = Events::with_capacity(4);
    let mut suspicion = Suspicion::new(config.suspicion);
    let mut seq = 0;
    let mut next = now_us();
    while !pulse.stop.load(Ordering::Relaxed) {
        let now = now_us();
        for change in changes.try_iter() {
            match change {
                Watch::Start(member) => suspicion.watch(now, member),
                Watch::Forget(node) => suspicion.forget(node),
                Watch::Hint(member) => suspicion.hint(member),
            }
        }
        // An interrupted wait is as good as one that ended.
        let _ = poll.poll(&mut events, Some(LOOK_EVERY));
        receive(config, socket, pulse, &mut suspicion);
        let now = now_us();
        let suspects = suspicion.suspects(now);
        let news = pulse.suspects.swap(suspects, Ordering::Relaxed) != suspects;
        if news {
            pulse.suspects_at_us.store(now, Ordering::Relaxed);
        }
        if now >= next || news {
            next = now + config.every.as_micros() as u64;
            seq += 1;
            send(config, socket, pulse, seq, suspects);
        }
    }
}

/// Takes the datagrams that are there.
fn receive(config: &HeartbeatConfig, socket: &UdpSocket, pulse: &Pulse, suspicion: &mut Suspicion) {
    let mut buffer = [0u8; Beat::BYTES_MAX];
    for _ in 0..BEATS_PER_TURN_MAX {
        match socket.recv_from(&mut buffer) {
            Ok((len, _)) => match Beat::open(buffer.get(..len).unwrap_or_default(), &config.key) {
                Ok(beat) => {
                    suspicion.beat(now_us(), &beat);
                }
                Err(_) => {
                    pulse.forged.fetch_add(1, Ordering::Relaxed);
                }
            },
            Err(e) if e.kind() == ErrorKind::WouldBlock => return,
            // "Port unreachable" of a dead peer shows up here: the next datagram tells more.
            Err(_) => {}
        }
    }
}

fn send(config: &HeartbeatConfig, socket: &UdpSocket, pulse: &Pulse, seq: u64, suspects: u32) {
    let inc = pulse.inc.load(Ordering::Relaxed);
    if inc == 0 {
        return;
    }
    let data_turns = pulse.data_turns.load(Ordering::Relaxed);
    let beat = Beat { node: config.me, inc: Incarnation(inc), seq, data_turns, suspects };
    let wire = beat.seal(&config.key);
    for to in &config.to {
        // A lost beat is what suspicion is made for; an error here says no more.
        let _ = socket.send_to(&wire, *to);
    }
}
