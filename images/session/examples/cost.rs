//! What a request costs the guest: nanoseconds from frame in to frame out, without network and without VMM.
//! `cargo run --release -p escape-session --example cost [connections ...]`

#![allow(clippy::unwrap_used)]

use escape_abi::layout::SLOT_SIZE;
use escape_abi::{BootParams, ControlLayout, GuestMessage, HostMessage};
use escape_session::{Host, Memory, Server};
use std::time::Instant;

const IP: [u8; 4] = [10, 0, 0, 2];

struct Bench {
    start: Instant,
    /// Server's next sequence number, by what it last sent.
    last_end: u32,
    frames: u64,
    bytes: u64,
}

impl Host for Bench {
    fn now_us(&self) -> i64 {
        self.start.elapsed().as_micros() as i64
    }
    fn transmit(&mut self, frame: &[u8]) -> bool {
        let word = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().unwrap());
        let payload = frame.len() - 34 - usize::from(frame[46] >> 4) * 4;
        self.last_end = word(38).wrapping_add(payload as u32 + u32::from(frame[47] & 2 != 0));
        self.frames += 1;
        self.bytes += frame.len() as u64;
        true
    }
    fn send(&mut self, _: GuestMessage) -> bool {
        true
    }
}

/// An anonymous mapping for the life of the process.
fn map(len: usize) -> *mut u8 {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping.
    let p = unsafe { libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    assert_ne!(p, libc::MAP_FAILED);
    p.cast()
}

struct Peer {
    frame: Vec<u8>,
    seq: u32,
    ack: u32,
}

impl Peer {
    fn new(n: u32) -> Self {
        let mut f = vec![0u8; 54];
        f[6] = 6;
        f[12..16].copy_from_slice(&[8, 0, 0x45, 0]);
        f[22..24].copy_from_slice(&[64, 6]);
        f[26..30].copy_from_slice(&(0x0a01_0000 + n).to_be_bytes());
        f[30..34].copy_from_slice(&IP);
        f[34..38].copy_from_slice(&[0x20, 0, 0, 80]);
        f[48..50].copy_from_slice(&[0xff, 0xff]);
        Self { frame: f, seq: 1000, ack: 0 }
    }

    /// A segment; checksums are left out, for the server is told that they were verified.
    fn segment(&mut self, flags: u8, payload: &[u8]) -> &[u8] {
        let f = &mut self.frame;
        f.truncate(54);
        f[16..18].copy_from_slice(&(40 + payload.len() as u16).to_be_bytes());
        f[38..42].copy_from_slice(&self.seq.to_be_bytes());
        f[42..46].copy_from_slice(&self.ack.to_be_bytes());
        f[46..48].copy_from_slice(&[0x50, flags]);
        f.extend_from_slice(payload);
        self.seq += payload.len() as u32 + u32::from(flags & 2 != 0);
        f
    }
}

fn run(connections: u32, request: &[u8], rounds: u32) -> (f64, f64) {
    let n_slots = connections.next_multiple_of(64);
    let control = ControlLayout::new(n_slots);
    // SAFETY: fresh mappings that are never unmapped, used by this server only.
    let memory = unsafe { Memory::new(map(control.bytes as usize), map(n_slots as usize * SLOT_SIZE), n_slots) };
    let params = BootParams {
        magic: 0,
        version: 1,
        n_slots,
        tsc_khz: 0,
        ram_bytes: 0,
        image_id: 1,
        wall_us: 0,
        node: 1,
        idle_timeout_s: 0,
        ip: IP,
        mac: [2; 6],
        http_port: 80,
        stream_port: 0,
        slice_per_client: 0,
        cmdline: [0; 256],
    };
    let host = Bench { start: Instant::now(), last_end: 0, frames: 0, bytes: 0 };
    let mut server = Server::new(&params, 1, memory, host);
    server.trust_rx_checksums(true);
    for first_slot in (0..n_slots).step_by(64) {
        server.on_message(HostMessage::Lease { first_slot, generation: 1 });
    }
    let mut peers: Vec<Peer> = (0..connections).map(Peer::new).collect();
    for p in &mut peers {
        server.on_frame(p.segment(2, &[]));
        p.ack = server.host().last_end;
        server.on_frame(p.segment(16, &[]));
    }
    let mut best = f64::MAX;
    for round in 0..rounds {
        let start = Instant::now();
        for p in &mut peers {
            server.on_frame(p.segment(24, request));
            p.ack = server.host().last_end;
            server.on_timers();
        }
        if round > 0 {
            best = best.min(start.elapsed().as_nanos() as f64 / f64::from(connections));
        }
    }
    let (frames, bytes) = (server.host().frames, server.host().bytes);
    let wanted = u64::from(connections) * u64::from(rounds);
    assert!(frames >= wanted, "{frames} frames for {wanted} requests: {:?}", server.counters());
    (best, bytes as f64 / frames as f64)
}

fn main() {
    let mut counts: Vec<u32> = std::env::args().skip(1).map(|a| a.parse().unwrap()).collect();
    if counts.is_empty() {
        counts = vec![1, 100, 1000, 10_000];
    }
    let put = [b"PUT /kv/a HTTP/1.1\r\nHost: x\r\nContent-Length: 200\r\n\r\n".as_slice(), &[b'v'; 200]].concat();
    let kinds: [(&str, &[u8]); 4] = [
        ("POST /counter", b"POST /counter HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("GET /bytes?n=200", b"GET /bytes?n=200 HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("PUT /kv/a 200 B", &put),
        ("POST /dirty?n=4096", b"POST /dirty?n=4096 HTTP/1.1\r\nHost: x\r\n\r\n"),
    ];
    println!("{:>20} {:>12} {:>14} {:>12}", "request", "connections", "ns (best)", "B per reply");
    for (name, request) in kinds {
        for n in &counts {
            let rounds = (200_000 / n).clamp(8, 20_000);
            let (ns, bytes) = run(*n, request, rounds);
            println!("{name:>20} {n:>12} {ns:>14.0} {bytes:>12.0}");
        }
    }
}
