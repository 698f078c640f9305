//! A guest of a cell, as far as its agent and its processes can tell.

use crate::{Ears, LIMIT, N_SLOTS, PORT};
use escape_abi::layout::{LEASE_SLOTS, SLOT_SIZE};
use escape_abi::message::Flow;
use escape_abi::{GuestMessage, HostMessage, SlotWord};
use escape_agent::keeping::{Keeper, Kept};
use escape_agent::slices::{Agent, AgentLoop, Devices, Doorbell, Host};
use escape_capsule::SliceKey;
use escape_process::{Channel, SliceMemory};
use escape_vmm::control::Control;
use escape_vmm::interrupts::Interrupt;
use escape_vmm::memory::{Arena, ControlPages, SlotMemory, SlotTable};
use std::fs::File;
use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// A guest: its agent runs until this is dropped.
pub struct Guest {
    host: Control,
    /// Slot words, metadata and memory.
    pub slots: SlotTable,
    socket: PathBuf,
    /// None while it is exchanged.
    agent: Option<Seat>,
    said: Vec<GuestMessage>,
}

/// The file behind a mapping of this process, as another process can map it.
fn file_of(address: u64, bytes: u64) -> File {
    let path = format!("/proc/self/map_files/{address:x}-{:x}", address + bytes);
    File::options().read(true).write(true).open(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

impl Guest {
    /// With its first lease.
    pub fn new(directory: &Path, name: &str) -> Self {
        Self::with_slots(directory, name, N_SLOTS)
    }

    /// With so many slots, of which the first lease is its own.
    pub fn with_slots(directory: &Path, name: &str, n_slots: u32) -> Self {
        let (pages, arena) = (Arc::new(ControlPages::new(n_slots).unwrap()), Arc::new(Arena::new(n_slots).unwrap()));
        let n_leases = n_slots / LEASE_SLOTS;
        (0..n_leases).for_each(|lease| arena.set_leased(lease));
        let control_at = (pages.mapping().host_address(), pages.layout().bytes);
        let arena_at = (arena.lease_host_address(0), Arena::lease_bytes() * u64::from(n_leases));
        // The library's promise is that this memory stays.
        std::mem::forget((Arc::clone(&pages), Arc::clone(&arena)));
        let device = |(at, bytes)| (OwnedFd::from(file_of(at, bytes)), bytes);
        let devices = [device(control_at), device(arena_at)];
        let mapped = |(at, bytes): (u64, u64)| (at as *mut u8, bytes as usize);
        // SAFETY: mapped for ever; host, agent and processes share it as they do in a guest.
        let memory = unsafe { SliceMemory::attach(mapped(control_at), mapped(arena_at)) }.unwrap();
        let doorbell = Arc::new(EventFd::new(EFD_NONBLOCK).unwrap());
        let host = Control::new(Arc::clone(&pages), Interrupt::new().unwrap(), doorbell);
        let socket = directory.join(format!("{name}.sock"));
        let agent = Seat::begin(memory, devices, socket.clone(), Keeper::default());
        let slots = SlotTable::new(pages, arena);
        let mut guest = Self { host, slots, socket, agent: Some(agent), said: Vec::new() };
        guest.tell(HostMessage::Lease { first_slot: 0, generation: 3 });
        guest
    }

    /// The host says something.
    pub fn tell(&mut self, message: HostMessage) {
        assert!(self.host.send(message));
    }

    /// Waits for something that the agent says.
    pub fn hear(&mut self, wanted: impl Fn(&GuestMessage) -> bool) -> GuestMessage {
        let begun = Instant::now();
        loop {
            while let Some(message) = self.host.recv() {
                self.said.push(message);
            }
            if let Some(at) = self.said.iter().position(&wanted) {
                return self.said.remove(at);
            }
            assert!(begun.elapsed() < LIMIT, "not said: {:?}", self.said);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The agent ends, and another takes over; its processes do not notice.
    pub fn restart_agent(&mut self) {
        let (memory, devices, socket, keeper) = self.agent.take().unwrap().end();
        self.agent = Some(Seat::begin(memory, devices, socket, keeper));
    }

    /// Its memory, for processes that are threads of the test.
    pub fn memory(&self) -> SliceMemory {
        self.agent.as_ref().unwrap().memory
    }

    /// Where its processes find the agent.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// A server's process; it has registered with this guest's agent.
    pub fn serve(&mut self, command: &mut Command) -> Server {
        let server = Server(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap());
        self.hear(|m| *m == GuestMessage::Ready);
        server
    }

    /// A client connects, and the agent gives its flow a slot. The server accepts when the agent knows of it, as it does when the answer to
    /// the SYN is held.
    pub fn open(&mut self, server: &Server) -> (TcpStream, SliceKey) {
        server.signal(libc::SIGSTOP);
        let ears = Ears::open();
        let client = TcpStream::connect((Ipv4Addr::LOCALHOST, PORT)).unwrap();
        client.set_read_timeout(Some(LIMIT)).unwrap();
        let numbers = ears.opening();
        let flow = Flow { ip: [127, 0, 0, 1], port: client.local_addr().unwrap().port(), service_port: PORT };
        self.tell(HostMessage::Opening { flow, numbers });
        let bound = self.hear(|m| matches!(m, GuestMessage::Bind { .. }));
        let GuestMessage::Bind { slot, incarnation, .. } = bound else { panic!("{bound:?}") };
        server.signal(libc::SIGCONT);
        (client, SliceKey { slot, incarnation })
    }

    /// A client says something that is no whole request; its server has read it when this returns.
    pub fn hear_part(&self, client: &mut TcpStream, key: SliceKey, part: &str) {
        let read = || self.slots.meta(key.slot).unwrap().numbers[0].rcv_nxt;
        let (before, begun) = (read(), Instant::now());
        client.write_all(part.as_bytes()).unwrap();
        while read() == before {
            assert!(begun.elapsed() < LIMIT, "the server reads nothing");
        }
    }

    /// The machine is gone: its kernel is silent, its server ends. What the slice was, at rest.
    pub fn die(&mut self, server: Server, key: SliceKey) -> Slice {
        let SliceKey { slot, incarnation } = key;
        let begun = Instant::now();
        // Stopped outside of a turn.
        server.signal(libc::SIGSTOP);
        while !self.slots.word(slot).unwrap().quiescent() {
            assert!(begun.elapsed() < LIMIT, "never at rest");
            server.signal(libc::SIGCONT);
            std::thread::sleep(Duration::from_millis(1));
            server.signal(libc::SIGSTOP);
        }
        // As at a standby: what the slice has published, and otherwise what another one has left there.
        let mut bytes = vec![0xa5; SLOT_SIZE];
        let word = self.slots.word(slot).unwrap();
        for range in self.slots.meta(slot).unwrap().live {
            let live = &mut bytes[range.offset as usize..][..range.len as usize];
            assert!(self.slots.read(slot, range.offset as usize, live));
        }
        self.tell(HostMessage::Discard { slot, incarnation });
        self.hear(|m| *m == GuestMessage::Unplugged { slot, incarnation });
        drop(server);
        Slice { key, word, bytes }
    }

    /// The slice is plugged here.
    pub fn plug(&mut self, slice: &Slice) {
        let SliceKey { slot, incarnation } = slice.key;
        assert!(self.slots.write(slot, 0, &slice.bytes));
        self.slots.set_word(slot, slice.word);
        self.tell(HostMessage::Plug { slot, incarnation });
        self.hear(|m| *m == GuestMessage::Plugged { slot, incarnation, status: 0 });
    }
}

/// A slice between two guests.
pub struct Slice {
    key: SliceKey,
    word: SlotWord,
    bytes: Vec<u8>,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.agent.take().map(Seat::end);
    }
}

/// An agent and its keeper, which run.
struct Seat {
    memory: SliceMemory,
    devices: Devices,
    socket: PathBuf,
    stop: Arc<AtomicBool>,
    agent: JoinHandle<()>,
    keeper: JoinHandle<Keeper>,
}

impl Seat {
    /// An agent that goes on with what the keeper has.
    fn begin(memory: SliceMemory, devices: Devices, socket: PathBuf, mut keeper: Keeper) -> Self {
        let (ours, theirs) = Channel::pair().unwrap();
        let keeper = std::thread::spawn(move || {
            keeper.serve(&ours);
            keeper
        });
        let copies = devices.each_ref().map(|(device, bytes)| (device.try_clone().unwrap(), *bytes));
        let (stop, path) = (Arc::new(AtomicBool::new(false)), socket.clone());
        let (stopped, (listens, listening)) = (Arc::clone(&stop), std::sync::mpsc::channel());
        let agent = std::thread::spawn(move || {
            let host = Host::of(&memory, Doorbell::None).unwrap();
            let begun = Agent::begin(memory, host, copies, [127, 0, 0, 1], Kept::by(theirs).unwrap());
            let (agent, listener) = begun.unwrap();
            let mut agent = AgentLoop::begin(agent, listener, &path).unwrap();
            listens.send(()).unwrap();
            while !stopped.load(Ordering::Relaxed) {
                agent.turn(Duration::from_millis(2)).unwrap();
            }
        });
        listening.recv_timeout(LIMIT).unwrap();
        Self { memory, devices, socket, stop, agent, keeper }
    }

    /// The agent is gone, with all its descriptors.
    fn end(self) -> (SliceMemory, Devices, PathBuf, Keeper) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.agent.join();
        (self.memory, self.devices, self.socket, self.keeper.join().unwrap_or_default())
    }
}

/// Killed when dropped.
pub struct Server(Child);

impl Server {
    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        // SAFETY: takes no pointers; the process is a child that was not waited for.
        assert_eq!(unsafe { libc::kill(self.0.id() as i32, signal) }, 0);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
