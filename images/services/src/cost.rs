//! What a turn costs: one request of 100 bytes, 64 bytes of state changed, an answer of 100 bytes, over loopback. Beside it the same without
//! slices: read, write. One line of JSON, times in microseconds. It asks for no cell: the agent is a thread that knows one slice.

use anyhow::{Context, Result, bail, ensure};
use escape_abi::control::{CONTROL_MAGIC, ControlHeader, ControlLayout};
use escape_abi::layout::SLOT_SIZE;
use escape_abi::{OpeningNumbers, message::Flow};
use escape_capsule::SliceKey;
use escape_process::channel::Received;
use escape_process::{
    Channel, Connection, Message, Service, Session, SliceMemory, SliceState, SlotState, TcpState, Turn,
};
use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

const SLOTS: u32 = 1;
/// Bytes of request and of answer.
const BYTES: usize = 100;
/// Turns that are measured, at most.
pub const ROUNDS_MAX: usize = 1_000_000;

#[derive(Clone, Copy)]
#[repr(C)]
struct State([u64; 8]);
// SAFETY: integers.
unsafe impl SliceState for State {}

/// Measures so many turns and prints what they cost. They are interleaved with those without slices, so that both see the same machine.
pub fn measure(rounds: usize) -> Result<()> {
    ensure!((1..=ROUNDS_MAX).contains(&rounds), "1 to {ROUNDS_MAX} rounds");
    let listener = TcpListener::bind("127.0.0.1:0").context("a listener")?;
    let (mut client, server) = pair(&listener)?;
    let mut connection = adopt(memory()?, server)?;
    let (mut plain_client, mut plain) = pair(&listener)?;
    plain.set_nonblocking(true).and_then(|()| plain.set_nodelay(true)).context("a connection")?;
    let (mut turns, mut plains) = (Vec::with_capacity(rounds), Vec::with_capacity(rounds));
    let mut answer = [0; BYTES];
    for _ in 0..rounds {
        client.write_all(&[7; BYTES])?;
        let begun = Instant::now();
        let turn = connection.work(serve).context("a turn")?;
        turns.push(begun.elapsed());
        ensure!(matches!(turn, Turn::Done(true)), "a turn did not find its whole request");
        client.read_exact(&mut answer)?;
        plain_client.write_all(&[7; BYTES])?;
        let begun = Instant::now();
        serve_plainly(&mut plain)?;
        plains.push(begun.elapsed());
        plain_client.read_exact(&mut answer)?;
    }
    println!("{{\"turn_us\":{},\"plain_us\":{},\"rounds\":{rounds}}}", figures(turns), figures(plains));
    Ok(())
}

fn pair(listener: &TcpListener) -> Result<(TcpStream, TcpStream)> {
    let client = TcpStream::connect(listener.local_addr()?).context("a client")?;
    client.set_nodelay(true)?;
    Ok((client, listener.accept()?.0))
}

fn serve(session: &mut Session<'_>) -> bool {
    let request = session.input().to_vec();
    session.consume(request.len());
    session.state::<State>().0.iter_mut().for_each(|word| *word += 1);
    session.write(&request) == BYTES
}

/// As a server does that wants to know that there is no more.
fn serve_plainly(connection: &mut TcpStream) -> Result<()> {
    let mut request = [0; BYTES];
    connection.read_exact(&mut request)?;
    let more = connection.read(&mut [0; 1]);
    ensure!(more.is_err_and(|e| e.kind() == ErrorKind::WouldBlock), "more than one request");
    connection.write_all(&request).context("an answer")
}

fn figures(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |percent: usize| times.get(times.len() * percent / 100).map_or(0.0, |time| time.as_secs_f64() * 1e6);
    format!("{{\"p50\":{:.2},\"p99\":{:.2}}}", at(50), at(99))
}

/// A slot and its control pages, in this process's memory until it ends.
fn memory() -> Result<SliceMemory> {
    let layout = ControlLayout::new(SLOTS);
    let (control_bytes, arena_bytes) = (usize::try_from(layout.bytes)?, SLOT_SIZE);
    let (control, arena) = (pages(control_bytes)?, pages(arena_bytes)?);
    let header = control.cast::<ControlHeader>();
    // SAFETY: zeroed pages that are never freed; the header is written before anybody looks.
    unsafe {
        (&raw mut (*header).magic).write(CONTROL_MAGIC);
        (&raw mut (*header).n_slots).write(SLOTS);
        SliceMemory::attach((control, control_bytes), (arena, arena_bytes)).context("the slices' memory")
    }
}

fn pages(bytes: usize) -> Result<*mut u8> {
    let layout = Layout::from_size_align(bytes, 4096)?;
    // SAFETY: of a size that is not 0.
    let pages = unsafe { alloc_zeroed(layout) };
    if pages.is_null() {
        handle_alloc_error(layout);
    }
    Ok(pages)
}

/// An agent that knows one slice.
fn adopt(memory: SliceMemory, server: TcpStream) -> Result<Connection> {
    let key = SliceKey { slot: 0, incarnation: 1 << 32 | 1 };
    let numbers = OpeningNumbers { mss: 1460, ..OpeningNumbers::default() };
    let state = SlotState::new(key, TcpState::opened(flow_of(&server)?, [127, 0, 0, 1], numbers, 0));
    let state = state.context("a slot's state")?;
    let slot = memory.slot(0).context("a slot")?;
    // SAFETY: a slot of memory that nobody else uses.
    unsafe { slot.write(state) };
    let (agent, process) = Channel::pair().context("a channel")?;
    std::thread::spawn(move || answer_as_agent(&agent, key));
    Service::over(process, memory, &[1]).context("a service")?.adopt(server).context("adopting")
}

fn flow_of(server: &TcpStream) -> Result<Flow> {
    let (client, service_port) = (server.peer_addr()?, server.local_addr()?.port());
    let IpAddr::V4(ip) = client.ip() else { bail!("{client} is not IPv4") };
    Ok(Flow { ip: ip.octets(), port: client.port(), service_port })
}

fn answer_as_agent(agent: &Channel, key: SliceKey) {
    let Ok(nothing) = File::open("/dev/null") else { return };
    while let Ok(Some(Received { message, .. })) = agent.receive(true) {
        let sent = match message {
            Message::Hello { .. } => {
                agent.send(Message::Welcome { control_bytes: 0, arena_bytes: 0 }, &[nothing.as_fd(), nothing.as_fd()])
            }
            Message::Adopt { .. } => agent.send(Message::Adopted { slice: key }, &[]),
            _ => continue,
        };
        if sent.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_turn_has_a_cost() {
        super::measure(3).unwrap_or_else(|error| panic!("{error:#}"));
    }
}
