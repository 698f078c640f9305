//! An unmodified server of Debian's packages, nginx: a client's connection goes from one process of it to another, each in a guest of its own.
//! Both guests share this machine's kernel; the host's side of the control pages is the VMM's.
#![allow(clippy::unwrap_used)]

use escape_abi::layout::SLOT_SIZE;
use escape_abi::message::Flow;
use escape_abi::{GuestMessage, HostMessage};
use escape_agent::slices::{Agent, AgentLoop, Doorbell, Host};
use escape_capsule::SliceKey;
use escape_fabric::links::Links;
use escape_fabric::netns::NetNs;
use escape_process::SliceMemory;
use escape_process::channel::listen;
use escape_vmm::commit::{Frame, Segment, Source, SynOptions, parse};
use escape_vmm::control::Control;
use escape_vmm::interrupts::Interrupt;
use escape_vmm::memory::{Arena, ControlPages, SlotMemory, SlotTable};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

const N_SLOTS: u32 = 64;
const PORT: u16 = 8080;
const LIMIT: Duration = Duration::from_secs(10);
const TEXT: &str = "a file that is served by whoever is alive\n";

/// A guest: its agent runs until this is dropped.
struct Guest {
    host: Control,
    slots: SlotTable,
    socket: PathBuf,
    stop: Arc<AtomicBool>,
    agent: Option<std::thread::JoinHandle<()>>,
    said: Vec<GuestMessage>,
}

/// The file behind a mapping of this process, as another process can map it.
fn file_of(address: u64, bytes: u64) -> File {
    let path = format!("/proc/self/map_files/{address:x}-{:x}", address + bytes);
    File::options().read(true).write(true).open(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

impl Guest {
    fn new(directory: &Path, name: &str) -> Self {
        let (pages, arena) = (Arc::new(ControlPages::new(N_SLOTS).unwrap()), Arc::new(Arena::new(N_SLOTS).unwrap()));
        arena.set_leased(0);
        let control_at = (pages.mapping().host_address(), pages.layout().bytes);
        let arena_at = (arena.lease_host_address(0), Arena::lease_bytes());
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
        let listener = listen(&socket).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let agent = std::thread::spawn(move || {
            let agent = Agent::new(memory, Host::of(&memory, Doorbell::None).unwrap(), devices, [127, 0, 0, 1]);
            let mut agent = AgentLoop::new(agent, listener);
            while !stopped.load(Ordering::Relaxed) {
                agent.turn(Duration::from_millis(2)).unwrap();
            }
        });
        let slots = SlotTable::new(pages, arena);
        let mut guest = Self { host, slots, socket, stop, agent: Some(agent), said: Vec::new() };
        guest.tell(HostMessage::Lease { first_slot: 0, generation: 3 });
        guest
    }

    fn tell(&mut self, message: HostMessage) {
        assert!(self.host.send(message));
    }

    fn hear(&mut self, wanted: impl Fn(&GuestMessage) -> bool) -> GuestMessage {
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

    /// The server, which registers with this guest's agent.
    fn serve(&mut self, nginx: &Path, directory: &Path) -> Server {
        let library = std::env::current_exe().unwrap().parent().unwrap().join("libescape_preload.so");
        let mut command = Command::new(nginx);
        command.arg("-p").arg(directory).arg("-c").arg(directory.join("nginx.conf")).args(["-e", "stderr"]);
        command.env("LD_PRELOAD", library).env("ESCAPE_PORTS", PORT.to_string()).env("ESCAPE_AGENT", &self.socket);
        let server = Server(command.stdout(Stdio::null()).spawn().unwrap());
        self.hear(|m| *m == GuestMessage::Ready);
        server
    }
}

/// One process, one thread; nothing written anywhere but into this directory.
const CONFIGURATION: &str = "daemon off; master_process off; pid DIR/pid; error_log stderr warn;
events { worker_connections 64; }
http {
    access_log off; sendfile on; keepalive_timeout 60; keepalive_requests 1000;
    client_body_temp_path DIR/t1; proxy_temp_path DIR/t2; fastcgi_temp_path DIR/t3; uwsgi_temp_path DIR/t4; scgi_temp_path DIR/t5;
    server { listen 127.0.0.1:PORT; root DIR/files; }
}
";

/// Where the server is: `ESCAPE_NGINX`, or where Debian's package puts it.
fn nginx() -> Option<PathBuf> {
    let named = std::env::var_os("ESCAPE_NGINX").map(PathBuf::from);
    named.into_iter().chain([PathBuf::from("/usr/sbin/nginx")]).find(|path| path.is_file())
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(agent) = self.agent.take() {
            let _ = agent.join();
        }
    }
}

/// Killed when dropped.
struct Server(Child);

impl Server {
    fn signal(&self, signal: i32) {
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

/// Hears every TCP packet of this network.
struct RawEars(OwnedFd);

impl RawEars {
    fn open() -> Self {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};
        Self(socket_with(AddressFamily::INET, SocketType::RAW, SocketFlags::CLOEXEC, Some(ipproto::TCP)).unwrap())
    }

    /// A SYN of this source, and its frame.
    fn syn(&self, source: Source, answer: bool) -> (Segment, Vec<u8>) {
        let begun = Instant::now();
        let mut packet = [0u8; 65_536];
        loop {
            assert!(begun.elapsed() < LIMIT, "not heard");
            let got = rustix::net::recv(&self.0, &mut packet[..], rustix::net::RecvFlags::DONTWAIT);
            let Ok((_, len)) = got else { continue };
            let frame = [&[0; 12][..], &[2; 12], &[8, 0], &packet[..len]].concat();
            if let Frame::Tcp(segment) = parse(&frame, source)
                && segment.flow.service_port == PORT
                && segment.flags.syn()
                && segment.flags.ack() == answer
            {
                return (segment, frame);
            }
        }
    }
}

/// One request on a connection that stays; the reply's body.
fn get(client: &mut TcpStream, path: &str) -> Vec<u8> {
    client.write_all(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes()).unwrap();
    body(client)
}

/// The body of the next reply.
fn body(client: &mut TcpStream) -> Vec<u8> {
    let mut reply = Vec::new();
    let mut part = [0; 4096];
    loop {
        if let Some(end) = reply.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&reply[..end]).into_owned();
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
            if reply.len() >= end + 4 + length.parse::<usize>().unwrap() {
                return reply.split_off(end + 4);
            }
        }
        let n = client.read(&mut part).unwrap();
        assert!(n > 0, "the connection was closed");
        reply.extend(&part[..n]);
    }
}

#[test]
fn a_connection_of_nginx_goes_on_in_another_process() {
    let Some(nginx) = nginx() else { return println!("SKIPPED: no nginx (Debian's package of that name)") };
    let namespace = match NetNs::create() {
        Ok(namespace) => namespace,
        Err(error) => return println!("SKIPPED: {error}"),
    };
    let mut links = Links::open_in(&namespace).unwrap();
    let lo = links.index_of("lo").unwrap();
    links.set_up(lo).unwrap();
    let directory = std::env::temp_dir().join(format!("escape-preload-{}", std::process::id()));
    std::fs::create_dir_all(directory.join("files")).unwrap();
    std::fs::write(directory.join("files/text"), TEXT).unwrap();
    std::fs::write(directory.join("files/large"), vec![7; 40_000]).unwrap();
    let configuration = CONFIGURATION.replace("DIR", directory.to_str().unwrap()).replace("PORT", &PORT.to_string());
    std::fs::write(directory.join("nginx.conf"), configuration).unwrap();
    namespace.enter(|| go_on(&nginx, &directory)).unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
}

fn go_on(nginx: &Path, directory: &Path) {
    let mut one = Guest::new(directory, "one");
    let server = one.serve(nginx, directory);
    // The handshake, as the host sees it. The server accepts when the agent knows of it, as it does when the answer is held.
    server.signal(libc::SIGSTOP);
    let ears = RawEars::open();
    let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, PORT)).unwrap();
    client.set_read_timeout(Some(LIMIT)).unwrap();
    let (syn, syn_frame) = ears.syn(Source::Client, false);
    let (answer, answer_frame) = ears.syn(Source::Guest, true);
    let offered = SynOptions::of(&syn_frame, &syn);
    let numbers = offered.agree(&SynOptions::of(&answer_frame, &answer), answer.seq, syn.seq);
    let flow = Flow { ip: [127, 0, 0, 1], port: client.local_addr().unwrap().port(), service_port: PORT };
    one.tell(HostMessage::Opening { flow, numbers });
    let bound = one.hear(|m| matches!(m, GuestMessage::Bind { .. }));
    let GuestMessage::Bind { slot, incarnation, .. } = bound else { panic!("{bound:?}") };
    let key = SliceKey { slot, incarnation };
    server.signal(libc::SIGCONT);
    for _ in 0..3 {
        assert_eq!(get(&mut client, "/text"), TEXT.as_bytes());
        assert_eq!(get(&mut client, "/large"), vec![7; 40_000]);
    }
    assert_eq!(one.slots.meta(slot).unwrap().requests, 6);
    // Half of a request: its server reads it, and dies with it.
    let (first, rest) = ("GET /text HT", "TP/1.1\r\nHost: test\r\n\r\n");
    let before = one.slots.meta(slot).unwrap().numbers[0].rcv_nxt;
    client.write_all(first.as_bytes()).unwrap();
    let begun = Instant::now();
    while one.slots.meta(slot).unwrap().numbers[0].rcv_nxt == before {
        assert!(begun.elapsed() < LIMIT, "the server reads nothing");
    }

    // The machine is gone: its kernel is silent, its server ends, and the slice's bytes are on another.
    let mut bytes = vec![0; SLOT_SIZE];
    let word = one.slots.word(slot).unwrap();
    assert!(word.quiescent() && one.slots.read(slot, 0, &mut bytes));
    one.tell(HostMessage::Discard { slot, incarnation });
    one.hear(|m| *m == GuestMessage::Unplugged { slot, incarnation });
    drop(server);
    let mut other = Guest::new(directory, "other");
    let _server = other.serve(nginx, directory);
    assert!(other.slots.write(slot, 0, &bytes));
    other.slots.set_word(slot, word);
    other.tell(HostMessage::Plug { slot, incarnation });
    other.hear(|m| *m == GuestMessage::Plugged { slot, incarnation, status: 0 });
    client.write_all(rest.as_bytes()).unwrap();
    assert_eq!(body(&mut client), TEXT.as_bytes(), "the other server has both halves");
    for _ in 0..3 {
        assert_eq!(get(&mut client, "/large"), vec![7; 40_000]);
        assert_eq!(get(&mut client, "/text"), TEXT.as_bytes());
    }
    assert_eq!(other.slots.meta(slot).unwrap().requests, 13);

    // And its end is the slice's.
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.read(&mut [0; 9]).unwrap(), 0, "{key:?}");
    other.hear(|m| *m == GuestMessage::Close { slot, incarnation });
}
