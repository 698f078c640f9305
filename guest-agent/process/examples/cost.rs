//! What a turn costs on this machine: one request of 100 bytes, 64 bytes of state changed, an answer of 100 bytes, over loopback. Beside it the
//! same without slices: read, write. Prints one line of JSON, times in microseconds.
//!
//! `cargo run --release -p escape-process --example cost`
#![allow(clippy::unwrap_used)]

use escape_abi::control::{CONTROL_MAGIC, ControlHeader, ControlLayout};
use escape_abi::layout::SLOT_SIZE;
use escape_abi::{OpeningNumbers, message::Flow};
use escape_capsule::SliceKey;
use escape_process::channel::Received;
use escape_process::{
    Channel, Connection, Message, Service, Session, SliceMemory, SliceState, SlotState, TcpState, Turn,
};
use std::alloc::{Layout, alloc_zeroed};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Instant;

const SLOTS: u32 = 64;
const ROUNDS: usize = 20_000;
const BYTES: usize = 100;

#[derive(Clone, Copy)]
#[repr(C)]
struct State([u64; 8]);
// SAFETY: integers.
unsafe impl SliceState for State {}

fn main() {
    let memory = memory();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let pair = || {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_nodelay(true).unwrap();
        (client, listener.accept().unwrap().0)
    };
    let (mut client, server) = pair();
    let mut connection = adopt(memory, server);
    let (mut plain_client, mut plain) = pair();
    plain.set_nonblocking(true).unwrap();
    plain.set_nodelay(true).unwrap();
    let (mut turns, mut plains) = (Vec::new(), Vec::new());
    let mut answer = [0; BYTES];
    // Interleaved, so that both see the same machine.
    for _ in 0..ROUNDS {
        client.write_all(&[7; BYTES]).unwrap();
        let begun = Instant::now();
        assert_eq!(connection.work(serve).unwrap(), Turn::Done(true));
        turns.push(begun.elapsed().as_nanos());
        client.read_exact(&mut answer).unwrap();
        plain_client.write_all(&[7; BYTES]).unwrap();
        let begun = Instant::now();
        let mut request = [0; BYTES];
        plain.read_exact(&mut request).unwrap();
        // As a server does that wants to know that there is no more.
        assert_eq!(plain.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock);
        plain.write_all(&request).unwrap();
        plains.push(begun.elapsed().as_nanos());
        plain_client.read_exact(&mut answer).unwrap();
    }
    let figures = |mut ns: Vec<u128>| {
        ns.sort_unstable();
        let at = |part: usize| ns[ns.len() * part / 100] as f64 / 1000.0;
        format!("{{\"p50\":{:.2},\"p99\":{:.2}}}", at(50), at(99))
    };
    println!("{{\"turn_us\":{},\"plain_us\":{},\"rounds\":{ROUNDS}}}", figures(turns), figures(plains));
}

fn serve(session: &mut Session<'_>) -> bool {
    let request = session.input().to_vec();
    session.consume(request.len());
    session.state::<State>().0.iter_mut().for_each(|word| *word += 1);
    session.write(&request) == BYTES
}

fn memory() -> SliceMemory {
    let layout = ControlLayout::new(SLOTS);
    let (control_bytes, arena_bytes) = (layout.bytes as usize, SLOTS as usize * SLOT_SIZE);
    // SAFETY: zeroed memory that is never freed; the header is written before anybody looks.
    unsafe {
        let page = |bytes| alloc_zeroed(Layout::from_size_align(bytes, 4096).unwrap());
        let (control, arena) = (page(control_bytes), page(arena_bytes));
        let header = control.cast::<ControlHeader>();
        (&raw mut (*header).magic).write(CONTROL_MAGIC);
        (&raw mut (*header).n_slots).write(SLOTS);
        SliceMemory::attach((control, control_bytes), (arena, arena_bytes)).unwrap()
    }
}

/// An agent that knows one slice.
fn adopt(memory: SliceMemory, server: TcpStream) -> Connection {
    let key = SliceKey { slot: 0, incarnation: 1 << 32 | 1 };
    let numbers = OpeningNumbers { mss: 1460, ..OpeningNumbers::default() };
    let state = SlotState::new(key, TcpState::opened(Flow::default(), [127, 0, 0, 1], numbers, 0)).unwrap();
    // SAFETY: a slot of memory that nobody else uses.
    unsafe { memory.slot(0).unwrap().write(state) };
    let (agent, process) = Channel::pair().unwrap();
    std::thread::spawn(move || {
        let nothing = File::open("/dev/null").unwrap();
        while let Ok(Some(Received { message, .. })) = agent.receive(true) {
            match message {
                Message::Hello { .. } => {
                    let welcome = Message::Welcome { control_bytes: 0, arena_bytes: 0 };
                    agent.send(welcome, &[nothing.as_fd(), nothing.as_fd()]).unwrap();
                }
                Message::Adopt { .. } => agent.send(Message::Adopted { slice: key }, &[]).unwrap(),
                _ => {}
            }
        }
    });
    Service::over(process, memory, &[1]).unwrap().adopt(server).unwrap()
}
