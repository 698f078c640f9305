//! What plugging many slices at once costs a Linux guest: the agent restores each connection and gives it to its process, which takes it.
//!
//! `cargo run --release -p escape-servers --example plug [SLICES [ROUNDS]]`, as root. Each round is another guest on this machine's kernel; the
//! time is from the host's first message to the agent's last, and the processors' time is that of agent, keeper, process and test together.
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
    let (mut took, mut used) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        on_stage("plug", &[], |directory| {
            let (took_us, used_us) = round(directory, slices);
            took.push(took_us);
            used.push(used_us);
        });
    }
    println!(
        "{slices} slices, {rounds} rounds, us per slice: {}; of processors' time: {}",
        summary(took),
        summary(used)
    );
}

fn summary(mut rounds: Vec<f64>) -> String {
    rounds.sort_by(f64::total_cmp);
    let at = |share: usize| rounds.get(rounds.len().saturating_sub(1) * share / 100).copied().unwrap_or(0.0);
    format!("median {:.1}, best {:.1}, worst {:.1}", at(50), at(0), at(100))
}

/// Processors' time of this process, microseconds.
fn used_us() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one `timespec`, to which the pointer leads.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) }, 0);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}

fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).unwrap();
}

/// Microseconds per slice, by the clock and of processors' time.
fn round(directory: &Path, slices: u32) -> (f64, f64) {
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
    let (begun, used) = (Instant::now(), used_us());
    for slot in 0..slices {
        guest.tell(HostMessage::Plug { slot, incarnation: 1 });
    }
    for slot in 0..slices {
        guest.hear(|m| *m == GuestMessage::Plugged { slot, incarnation: 1, status: 0 });
    }
    let (took, used) = (begun.elapsed().as_secs_f64() * 1e6, used_us() - used);
    process.join().unwrap().into_iter().for_each(Connection::forget);
    (took / f64::from(slices), used / f64::from(slices))
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
