//! Two guests' agents on this machine's kernel: real connections, the host's side of the control pages, and the library in between.
#![allow(clippy::unwrap_used)]

mod ends;
mod sessions;
mod successors;

use super::agent::Agent;
use super::crash;
use super::host::{Doorbell, Host};
use crate::keeping::{Keeper, Kept, Name};
use escape_abi::message::{Flow, opening_flag};
use escape_abi::{GuestMessage, HostMessage, OpeningNumbers, SlotMeta};
use escape_capsule::SliceKey;
use escape_fabric::links::Links;
use escape_fabric::netns::NetNs;
use escape_process::{Channel, Connection, Service, Session, SliceMemory, Turn, Upcall};
use escape_tcp::Frozen;
use escape_vmm::control::Control;
use escape_vmm::interrupts::Interrupt;
use escape_vmm::memory::{Arena, ControlPages, SlotMemory, SlotTable};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::{Deref, DerefMut};
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

const N_SLOTS: u32 = 64;
const PORT: u16 = 8080;
const LIMIT: Duration = Duration::from_secs(10);

/// An agent, its keeper, and who starts it again.
struct Seat {
    memory: SliceMemory,
    agent: Option<Agent>,
    keeper: Option<std::thread::JoinHandle<Keeper>>,
    /// Agents that have ended.
    ended: u32,
}

impl Seat {
    fn new(memory: SliceMemory) -> Self {
        let mut seat = Self { memory, agent: None, keeper: None, ended: 0 };
        seat.start(Keeper::default());
        seat
    }

    fn start(&mut self, mut keeper: Keeper) {
        let (ours, theirs) = Channel::pair().unwrap();
        self.keeper = Some(std::thread::spawn(move || {
            keeper.serve(&ours);
            keeper
        }));
        let device = || (OwnedFd::from(File::open("/dev/null").unwrap()), 0);
        let host = Host::of(&self.memory, Doorbell::None).unwrap();
        let (address, kept) = (Ipv4Addr::LOCALHOST.octets(), Kept::by(theirs).unwrap());
        self.agent = Some(Agent::begin(self.memory, host, [device(), device()], address, kept).unwrap().0);
    }

    /// The agent is gone, with all its descriptors; another goes on.
    fn restart(&mut self) {
        drop(self.agent.take());
        self.ended += 1;
        let keeper = self.keeper.take().unwrap().join().unwrap();
        self.start(keeper);
    }

    /// Lets the agent do something; if it ends in it, its successor does it.
    fn turn(&mut self, work: impl Fn(&mut Agent)) {
        let agent = self.agent.as_mut().unwrap();
        if catch_unwind(AssertUnwindSafe(|| work(agent))).is_err() {
            self.restart();
            work(self);
        }
    }
}

impl Deref for Seat {
    type Target = Agent;
    fn deref(&self) -> &Agent {
        self.agent.as_ref().unwrap()
    }
}

impl DerefMut for Seat {
    fn deref_mut(&mut self) -> &mut Agent {
        self.agent.as_mut().unwrap()
    }
}

/// A guest and its host.
struct Machine {
    host: Control,
    slots: SlotTable,
    agent: Seat,
    service: Service,
    process: u64,
    served: Vec<Connection>,
    said: Vec<GuestMessage>,
}

impl Machine {
    fn new() -> Self {
        let (pages, arena) = (Arc::new(ControlPages::new(N_SLOTS).unwrap()), Arc::new(Arena::new(N_SLOTS).unwrap()));
        arena.set_leased(0);
        let at = |address: u64, bytes: u64| (address as *mut u8, bytes as usize);
        let control_at = at(pages.mapping().host_address(), pages.layout().bytes);
        let arena_at = at(arena.lease_host_address(0), Arena::lease_bytes());
        // The library's promise is that this memory stays.
        std::mem::forget((Arc::clone(&pages), Arc::clone(&arena)));
        // SAFETY: mapped for ever; host, agent and library share it as they do in a guest.
        let memory = unsafe { SliceMemory::attach(control_at, arena_at) }.unwrap();
        let doorbell = Arc::new(EventFd::new(EFD_NONBLOCK).unwrap());
        let host = Control::new(Arc::clone(&pages), Interrupt::new().unwrap(), doorbell);
        let mut agent = Seat::new(memory);
        let (ours, theirs) = Channel::pair().unwrap();
        let process = agent.add_process(ours).unwrap();
        let service = std::thread::scope(|scope| {
            let service = scope.spawn(move || Service::over(theirs, memory, &[PORT]).unwrap());
            while !service.is_finished() {
                agent.hear_process(process).unwrap();
            }
            service.join().unwrap()
        });
        let slots = SlotTable::new(pages, arena);
        let mut machine = Self { host, slots, agent, service, process, served: Vec::new(), said: Vec::new() };
        machine.tell(HostMessage::Lease { first_slot: 0, generation: 3 });
        machine.turn();
        assert_eq!(std::mem::take(&mut machine.said), [GuestMessage::Ready]);
        machine
    }

    fn tell(&mut self, message: HostMessage) {
        assert!(self.host.send(message));
    }

    /// One turn of everybody.
    fn turn(&mut self) {
        let process = self.process;
        self.agent.turn(|agent| {
            agent.hear_host();
            agent.hear_process(process).unwrap();
            agent.look_at_closing();
            agent.look_at_asking();
            agent.host.announce();
        });
        while let Some(upcall) = self.service.upcall().unwrap() {
            match upcall {
                Upcall::Plugged(connection) => self.served.push(connection),
                Upcall::Discarded(key) => {
                    // A successor may say it once more.
                    if let Some(at) = self.served.iter().position(|c| c.key() == key) {
                        self.served.remove(at).forget();
                    }
                }
            }
        }
        self.agent.turn(|agent| agent.hear_process(process).unwrap());
        while let Some(message) = self.host.recv() {
            self.said.push(message);
        }
    }

    /// Waits for a message of the agent's.
    fn hear(&mut self, wanted: impl Fn(&GuestMessage) -> bool) -> GuestMessage {
        let begun = Instant::now();
        loop {
            self.turn();
            if let Some(at) = self.said.iter().position(&wanted) {
                return self.said.remove(at);
            }
            assert!(begun.elapsed() < LIMIT, "not said: {:?}", self.said);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The host has seen the handshake of a connection, which is accepted and adopted.
    fn take(&mut self, listener: &TcpListener) -> SliceKey {
        self.try_take(listener).unwrap()
    }

    /// The same; `None`: the agent knows no slice of it.
    fn try_take(&mut self, listener: &TcpListener) -> Option<SliceKey> {
        let begun = Instant::now();
        let (stream, peer) = listener.accept().unwrap();
        let frozen = Frozen::freeze(stream.into()).unwrap();
        let capsule = frozen.capsule();
        let (scale_of_client, scale_of_service) = capsule.options.scale.unwrap();
        let numbers = OpeningNumbers {
            iss: capsule.written.wrapping_sub(1),
            irs: capsule.expected.wrapping_sub(1),
            clock: capsule.options.timestamp.unwrap(),
            mss: capsule.options.mss,
            window: 65_535,
            scale_of_client,
            scale_of_service,
            flags: opening_flag::SACK | opening_flag::SCALE | opening_flag::TIMESTAMPS,
            reserved: 0,
        };
        let SocketAddr::V4(peer) = peer else { panic!("{peer}") };
        let flow = Flow { ip: peer.ip().octets(), port: peer.port(), service_port: PORT };
        let stream = TcpStream::from(frozen.thaw().unwrap());
        let key = loop {
            // As long as the answer to the SYN is held, the client says it again.
            self.tell(HostMessage::Opening { flow, numbers });
            self.turn();
            let bound = |m: &GuestMessage| match m {
                GuestMessage::Bind { slot, incarnation, flow: told, .. } if *told == flow => {
                    Some(SliceKey { slot: *slot, incarnation: *incarnation })
                }
                _ => None,
            };
            if let Some(key) = self.said.iter().find_map(bound) {
                self.said.retain(|m| bound(m).is_none());
                break key;
            }
            assert!(begun.elapsed() < LIMIT, "no slot for {flow:?}");
        };
        // The process waits for the agent's answer.
        let Self { service, agent, process, served, .. } = self;
        let connection = std::thread::scope(|scope| {
            let adopted = scope.spawn(move || service.adopt(stream).ok());
            while !adopted.is_finished() {
                agent.turn(|agent| agent.hear_process(*process).unwrap());
            }
            adopted.join().unwrap()
        });
        served.push(connection?);
        Some(key)
    }

    /// The process answers what has come.
    fn serve(&mut self) {
        self.served.retain_mut(|connection| connection.work(answer).unwrap() != Turn::Over);
    }

    /// Everybody has turns until all these slices have answered so many requests.
    fn serve_until(&mut self, keys: impl IntoIterator<Item = SliceKey> + Clone, requests: u64) {
        let begun = Instant::now();
        while keys.clone().into_iter().any(|key| self.meta(key).requests < requests) {
            self.turn();
            self.serve();
            assert!(begun.elapsed() < LIMIT, "not served: {:?}", self.said);
        }
    }

    /// A slot as it is at a standby: what the slice has published, and otherwise what another one has left there.
    fn image(&self, slot: u32) -> Vec<u8> {
        let mut image = vec![0xa5; escape_abi::layout::SLOT_SIZE];
        for range in self.slots.meta(slot).unwrap().live {
            let bytes = &mut image[range.offset as usize..][..range.len as usize];
            assert!(self.slots.read(slot, range.offset as usize, bytes));
        }
        image
    }

    fn meta(&self, key: SliceKey) -> SlotMeta {
        self.slots.meta(key.slot).unwrap()
    }
}

/// State of the test's program: lines answered, and the sum of their lengths.
#[derive(Clone, Copy)]
#[repr(C)]
struct Lines {
    count: u64,
    bytes: u64,
}
// SAFETY: two integers.
unsafe impl escape_process::SliceState for Lines {}

/// Answers each line with its number, the bytes of all lines so far, and itself.
fn answer(session: &mut Session<'_>) {
    while let Some(end) = session.input().iter().position(|c| *c == b'\n') {
        let line = String::from_utf8(session.input()[..end].to_vec()).unwrap();
        if session.room() < line.len() + 50 {
            return;
        }
        session.consume(end + 1);
        let lines = session.state::<Lines>();
        (lines.count, lines.bytes) = (lines.count + 1, lines.bytes + line.len() as u64);
        let reply = format!("{} {} {line}\n", lines.count, lines.bytes);
        assert_eq!(session.write(reply.as_bytes()), reply.len());
        session.count_request();
    }
    if session.at_end() {
        session.close();
    }
}

/// What the host does when a machine dies and another goes on: the slot's bytes go there, and the old kernel is silent.
fn move_slice(key: SliceKey, from: &mut Machine, to: &mut Machine) {
    move_slice_and(key, from, to, || {});
}

/// The same; this happens when the one is dead and the other has not begun.
fn move_slice_and(key: SliceKey, from: &mut Machine, to: &mut Machine, meanwhile: impl FnOnce()) {
    carry(&[key], from, to);
    meanwhile();
    let SliceKey { slot, incarnation } = key;
    to.tell(HostMessage::Plug { slot, incarnation });
    to.hear(|m| *m == GuestMessage::Plugged { slot, incarnation, status: 0 });
}

/// The first half of it, for all slices of a machine.
fn carry(keys: &[SliceKey], from: &mut Machine, to: &mut Machine) {
    for SliceKey { slot, incarnation } in keys.iter().copied() {
        let word = from.slots.word(slot).unwrap();
        assert!(word.quiescent());
        assert!(to.slots.write(slot, 0, &from.image(slot)));
        to.slots.set_word(slot, word);
        from.tell(HostMessage::Discard { slot, incarnation });
        from.hear(|m| *m == GuestMessage::Unplugged { slot, incarnation });
    }
    from.turn();
    from.agent.turn(keeper_has_heard);
    assert!(from.served.is_empty());
}

/// Two machines share a kernel here: a connection is made on one when no descriptor of the other's is left.
fn keeper_has_heard(agent: &mut Agent) {
    agent.kept.forget_now(Name::Connection(u32::MAX));
}

fn reply_of(client: &mut TcpStream) -> String {
    let mut reply = Vec::new();
    let mut byte = [0];
    while client.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
        reply.push(byte[0]);
    }
    String::from_utf8(reply).unwrap()
}

/// Runs a test in a network namespace of its own.
fn in_a_network(test: impl FnOnce() + Send) {
    let namespace = match NetNs::create() {
        Ok(namespace) => namespace,
        Err(error) => return println!("SKIPPED: {error}"),
    };
    let mut links = Links::open_in(&namespace).unwrap();
    let lo = links.index_of("lo").unwrap();
    links.set_up(lo).unwrap();
    namespace.enter(test).unwrap();
}

fn client(listener: &TcpListener) -> TcpStream {
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(LIMIT)).unwrap();
    client
}
