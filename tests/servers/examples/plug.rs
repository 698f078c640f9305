//! What plugging many slices at once costs a Linux guest: the agent restores each connection and gives it to its process, which takes it.
//!
//! `cargo run --release -p escape-servers --example plug [SLICES [ROUNDS]]`, as root. Each round is another guest on this machine's kernel; the
//! time is from the host's first message to the agent's last.
#![allow(clippy::unwrap_used)]

use escape_abi::layout::LEASE_SLOTS;
use escape_abi::message::{Flow, opening_flag};
use escape_abi::{GuestMessage, HostMessage, OpeningNumbers, SlotWord};
use escape_capsule::SliceKey;
use escape_process::{Channel, Connection, Service, SlotState, TcpState, Upcall, tcp_flag, wall_us};
use escape_servers::{Guest, LIMIT, PORT, on_stage};
use escape_vmm::memory::SlotMemory;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::path::Path;
use std::time::{Duration, Instant};

fn main() {
    let numbers: Vec<u32> = std::env::args().skip(1).map(|word| word.parse().expect("a number")).collect();
    let (slices, rounds) = (numbers.first().copied().unwrap_or(1000), numbers.get(1).copied().unwrap_or(5));
    raise_descriptor_limit();
    let mut per_slice_us = Vec::new();
    for _ in 0..rounds {
        on_stage("plug", &[], |directory| per_slice_us.push(round(directory, slices)));
    }
    per_slice_us.sort_by(f64::total_cmp);
    let at = |share: usize| per_slice_us.get(per_slice_us.len() * share / 100).copied().unwrap_or(0.0);
    println!(
        "{slices} slices, {rounds} rounds: {:.1} us per slice in the median round, {:.1} in the worst",
        at(50),
        at(99)
    );
}

fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).unwrap();
}

/// Microseconds per slice.
fn round(directory: &Path, slices: u32) -> f64 {
    let mut guest = Guest::with_slots(directory, "guest", slices.next_multiple_of(LEASE_SLOTS));
    let (agent, memory) = (Channel::connect(guest.socket()).unwrap(), guest.memory());
    let process = std::thread::spawn(move || take(Service::over(agent, memory, &[PORT]).unwrap(), slices));
    guest.hear(|m| *m == GuestMessage::Ready);
    for slot in 0..slices {
        let state = slice(SliceKey { slot, incarnation: 1 });
        // SAFETY: the state is plain numbers and has so many bytes.
        let bytes = unsafe { std::slice::from_raw_parts((&raw const state).cast::<u8>(), size_of::<SlotState>()) };
        assert!(guest.slots.write(slot, 0, bytes));
        guest.slots.set_word(slot, SlotWord::new(1, 0));
    }
    let begun = Instant::now();
    for slot in 0..slices {
        guest.tell(HostMessage::Plug { slot, incarnation: 1 });
    }
    for slot in 0..slices {
        guest.hear(|m| *m == GuestMessage::Plugged { slot, incarnation: 1, status: 0 });
    }
    let took = begun.elapsed();
    process.join().unwrap().into_iter().for_each(Connection::forget);
    took.as_secs_f64() * 1e6 / f64::from(slices)
}

/// A connection that was served elsewhere, at rest.
fn slice(key: SliceKey) -> SlotState {
    let flags = opening_flag::SACK | opening_flag::SCALE | opening_flag::TIMESTAMPS;
    let numbers = OpeningNumbers { iss: 7, irs: 9, mss: 1460, window: 65_535, flags, ..OpeningNumbers::default() };
    let port = u16::try_from(10_000 + key.slot).expect("at most 50,000 slices");
    let flow = Flow { ip: [127, 0, 0, 1], port, service_port: PORT };
    let mut tcp = TcpState::opened(flow, [127, 0, 0, 1], numbers, wall_us());
    tcp.flags = tcp_flag::ADOPTED;
    (tcp.read, tcp.written, tcp.acknowledged) = (100, 100, 100);
    SlotState::new(key, tcp).unwrap()
}

/// The process takes all of them.
fn take(mut service: Service, slices: u32) -> Vec<Connection> {
    let (mut all, begun) = (Vec::new(), Instant::now());
    while all.len() < slices as usize {
        assert!(begun.elapsed() < LIMIT, "{} slices were plugged", all.len());
        let patience = Duration::from_millis(10);
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(patience.subsec_nanos()) };
        poll(&mut [PollFd::new(&service, PollFlags::IN)], Some(&timeout)).unwrap();
        while let Some(upcall) = service.upcall().unwrap() {
            if let Upcall::Plugged(connection) = upcall {
                all.push(connection);
            }
        }
    }
    all
}
