//! What the commit path costs per request, step by step, without network and guest: ns, median and 99th percentile.
//!
//! `cargo run --release -p escape-vmm --example commit_cost [REQUESTS]`
//!
//! One request is what a small answer of the session server leaves behind: 1 frame in, 15 of 37 live lines changed, 1 frame
//! out. Each figure contains one reading of the clock (printed first).

use escape_abi::layout::{LINE, SLOT_SIZE};
use escape_abi::message::Flow;
use escape_abi::meta::{ConnectionNumbers, LiveRange, connection_bit};
use escape_abi::{SlotMeta, SlotWord};
use escape_vmm::commit::{
    BreachPolicy, Capture, CaptureLimits, Capturer, HoldLimits, ImageStore, IngressLimits, IngressStore, Mode,
    ProtectedPorts, Role, Rule, SliceId, Valve, ValveConfig, Verdict,
};
use escape_vmm::memory::slot_memory::SlotMemory;
use std::error::Error;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

const SERVICE_IP: [u8; 4] = [10, 0, 0, 1];
/// Bytes at the start of each slot that the model guest uses.
const USED: usize = 8192;
/// Header, socket and application; response in the transmit ring; session heap.
const LIVE: [(u32, u32); 3] = [(0, 1024), (2048, 300), (4096, 1024)];
/// Lines that one request changes.
const CHANGED: [usize; 15] = [0, 1, 2, 3, 4, 5, 8, 32, 33, 34, 35, 64, 65, 66, 70];

/// Slots with one quiescent word each; the bytes beyond [`USED`] are not there.
struct ModelMemory {
    words: Vec<AtomicU64>,
    metas: Vec<SlotMeta>,
    arena: Vec<AtomicU64>,
}

impl ModelMemory {
    fn new(slots: u32) -> Self {
        let n = slots as usize;
        let zeros = |n: usize| (0..n).map(|_| AtomicU64::new(0)).collect();
        Self { words: zeros(n), metas: vec![SlotMeta::default(); n], arena: zeros(n * USED / 8) }
    }

    /// What the guest does to answer request `n` of a slot.
    fn answer(&mut self, slot: u32, n: u32) {
        for line in CHANGED {
            let at = (slot as usize * USED + line * LINE) / 8;
            for (word, value) in self.arena.iter().skip(at).take(8).zip(u64::from(n) * 8..) {
                word.store(value, Relaxed);
            }
        }
        if let Some(meta) = self.metas.get_mut(slot as usize) {
            (meta.incarnation, meta.requests, meta.connections) = (1, n.into(), connection_bit::present(0));
            meta.numbers[0] = ConnectionNumbers { rcv_nxt: n * 200 + 200, snd_nxt: n * 200 + 200 };
            for (range, (offset, len)) in meta.live.iter_mut().zip(LIVE) {
                *range = LiveRange { offset, len };
            }
        }
        if let Some(word) = self.words.get(slot as usize) {
            word.store(SlotWord(word.load(Relaxed)).released().0, Relaxed);
        }
    }

    fn range(&self, slot: u32, offset: usize, len: usize) -> Option<&[AtomicU64]> {
        let start = slot as usize * USED + offset;
        (offset + len <= USED).then(|| self.arena.get(start / 8..(start + len).div_ceil(8))).flatten()
    }
}

impl SlotMemory for ModelMemory {
    fn n_slots(&self) -> u32 {
        u32::try_from(self.words.len()).unwrap_or(u32::MAX)
    }
    fn word(&self, slot: u32) -> Option<SlotWord> {
        self.words.get(slot as usize).map(|word| SlotWord(word.load(Relaxed)))
    }
    fn set_hold(&self, _slot: u32, _held: bool) {}
    fn meta(&self, slot: u32) -> Option<SlotMeta> {
        self.metas.get(slot as usize).copied()
    }
    fn read(&self, slot: u32, offset: usize, into: &mut [u8]) -> bool {
        let Some(words) = self.range(slot, offset, into.len()) else { return false };
        let (whole, tail) = into.as_chunks_mut::<8>();
        for (bytes, word) in whole.iter_mut().zip(words) {
            *bytes = word.load(Relaxed).to_le_bytes();
        }
        if let Some(word) = words.get(whole.len()) {
            tail.iter_mut().zip(word.load(Relaxed).to_le_bytes()).for_each(|(to, byte)| *to = byte);
        }
        true
    }
    fn write(&self, slot: u32, offset: usize, from: &[u8]) -> bool {
        let Some(words) = self.range(slot, offset, from.len()) else { return false };
        for (bytes, word) in from.chunks(8).zip(words) {
            let mut value = [0; 8];
            value.iter_mut().zip(bytes).for_each(|(to, byte)| *to = *byte);
            word.store(u64::from_le_bytes(value), Relaxed);
        }
        true
    }
    fn prefault(&self, _slot: u32, _offset: usize, _len: usize) {}
    fn set_word(&self, slot: u32, word: SlotWord) {
        if let Some(place) = self.words.get(slot as usize) {
            place.store(word.0, Relaxed);
        }
    }
}

/// Nanoseconds per step.
#[derive(Default)]
struct Samples(Vec<(&'static str, Vec<u32>)>);

impl Samples {
    fn add(&mut self, step: &'static str, since: Instant) {
        let ns = u32::try_from(since.elapsed().as_nanos()).unwrap_or(u32::MAX);
        match self.0.iter_mut().find(|(name, _)| *name == step) {
            Some((_, all)) => all.push(ns),
            None => self.0.push((step, vec![ns])),
        }
    }

    fn print(&mut self) {
        for (step, all) in &mut self.0 {
            all.sort_unstable();
            let at = |percent: usize| all.get((all.len() * percent / 100).min(all.len() - 1)).copied().unwrap_or(0);
            println!("  {step:<28} {:>7} {:>7}", at(50), at(99));
        }
    }
}

fn flow(slot: u32) -> Flow {
    let [_, a, b, c] = slot.to_be_bytes();
    Flow { ip: [10, a, b, c], port: 40_000, service_port: 80 }
}

/// A TCP frame of 200 payload bytes behind a virtio-net header.
fn frame(flow: Flow, seq: u32, from_guest: bool) -> Vec<u8> {
    let (client, service) = ((flow.ip, flow.port), (SERVICE_IP, flow.service_port));
    let (from, to) = if from_guest { (service, client) } else { (client, service) };
    let mut f = vec![0; 24];
    f.extend([8, 0, 0x45, 0, 0, 240, 0, 0, 0x40, 0, 64, 6, 0, 0]);
    f.extend(from.0.iter().chain(&to.0));
    f.extend(from.1.to_be_bytes().iter().chain(&to.1.to_be_bytes()));
    f.extend(seq.to_be_bytes().iter().chain(&seq.to_be_bytes()));
    f.extend([0x50, 0x18, 0x20, 0, 0, 0, 0, 0]);
    f.resize(f.len() + 200, 7);
    f
}

fn measure(slots: u32, requests: u32) -> Result<(), Box<dyn Error>> {
    let ports = ProtectedPorts::new(&[80]).ok_or("too many ports")?;
    let mut memory = ModelMemory::new(slots);
    let mut valve = Valve::new(ValveConfig {
        n_slots: slots,
        service_ip: SERVICE_IP,
        protected_ports: ports.clone(),
        unprotected_output: false,
        mode: Mode::Protect,
        limits: HoldLimits::default(),
        rule: Rule::Generation,
        on_breach: BreachPolicy::Panic,
    });
    let mut ingress = IngressStore::new(SERVICE_IP, ports.clone(), IngressLimits::default());
    let mut mirror = IngressStore::new(SERVICE_IP, ports, IngressLimits::default());
    let (mut owner, mut standby) = (ImageStore::new(slots)?, ImageStore::new(slots)?);
    let mut capturer = Capturer::new(CaptureLimits::default());
    for slot in 0..slots {
        let slice = SliceId { slot, incarnation: 1 };
        valve.saw_syn(flow(slot), 0, 0);
        valve.bind(slice, flow(slot), 0)?;
        owner.create(slice, flow(slot), Role::Shadow)?;
        standby.create(slice, flow(slot), Role::Standby)?;
    }
    let started = Instant::now();
    let clock = || started.elapsed().as_micros() as u64;
    let (mut samples, mut sent_bytes, mut lines) = (Samples::default(), 0, 0);
    for n in 0..requests.div_ceil(slots) + 2 {
        // The first two rounds touch pages and send full copies.
        if n == 2 {
            (samples, sent_bytes, lines) = (Samples::default(), 0, 0);
        }
        for slot in 0..slots {
            let request = frame(flow(slot), n * 200, false);
            let answer = frame(flow(slot), n * 200, true);
            samples.add("(clock)", Instant::now());
            let t = Instant::now();
            black_box(ingress.on_inbound(&request, 0, |_| false));
            samples.add("inbound: classify", t);
            let t = Instant::now();
            black_box(mirror.mirror_frame(&request, 0));
            samples.add("standby: keep mirrored", t);
            memory.answer(slot, n);

            let whole = Instant::now();
            let verdict = valve.submit(&answer, &memory, 0);
            samples.add("submit: classify, hold", whole);
            let Verdict::Held { slice, .. } = verdict else { return Err(format!("{verdict:?}").into()) };
            let t = Instant::now();
            let _ = valve.next_waiting();
            let Capture::Captured(captured) = capturer.capture(slice, &memory, &mut owner, &clock)? else {
                return Err("not captured".into());
            };
            valve.note_captured(slice, captured.coverage.generation);
            samples.add("capture, delta, chain", t);
            sent_bytes += captured.body.len();
            lines += captured.lines;
            let t = Instant::now();
            let applied = standby.apply(slice, &captured.checkpoint, captured.body)?;
            for (_, c) in applied.connections.iter() {
                mirror.covered(c.flow, c.rcv_nxt, 0);
            }
            samples.add("standby: chain, apply, cover", t);
            let t = Instant::now();
            valve.release(slot, &captured.coverage, &mut |frame| {
                black_box(frame);
            });
            samples.add("release", t);
            samples.add("all of both sides", whole);
        }
    }
    println!("{slots} sessions: ns                  p50     p99");
    samples.print();
    let done = (requests.div_ceil(slots) * slots) as usize;
    println!("  bytes sent per request {}, changed lines {}", sent_bytes / done, lines / done);
    Ok(())
}

/// Speed of the capture of a whole slot in which nothing changed: copy and compare.
fn whole_slot() -> Result<(), Box<dyn Error>> {
    let slice = SliceId { slot: 0, incarnation: 1 };
    let mut memory = WholeSlot { generation: 1, bytes: vec![1; SLOT_SIZE] };
    let mut images = ImageStore::new(1)?;
    images.create(slice, flow(0), Role::Shadow)?;
    let mut capturer = Capturer::new(CaptureLimits::default());
    let mut best = u128::MAX;
    for _ in 0..200 {
        memory.generation += 1;
        let t = Instant::now();
        capturer.capture(slice, &memory, &mut images, &|| 0)?;
        best = best.min(t.elapsed().as_nanos());
    }
    println!(
        "unchanged slot of {SLOT_SIZE} B: {best} ns, {:.1} GB/s copied and compared",
        SLOT_SIZE as f64 / best as f64
    );
    Ok(())
}

/// One slot that is all live.
struct WholeSlot {
    generation: u64,
    bytes: Vec<u8>,
}

impl SlotMemory for WholeSlot {
    fn n_slots(&self) -> u32 {
        1
    }
    fn word(&self, _slot: u32) -> Option<SlotWord> {
        Some(SlotWord::new(self.generation, 0))
    }
    fn set_hold(&self, _slot: u32, _held: bool) {}
    fn meta(&self, _slot: u32) -> Option<SlotMeta> {
        let mut meta = SlotMeta { incarnation: 1, ..SlotMeta::default() };
        meta.live = [LiveRange::default(); 8];
        if let Some(range) = meta.live.first_mut() {
            *range = LiveRange { offset: 0, len: SLOT_SIZE as u32 };
        }
        Some(meta)
    }
    fn read(&self, _slot: u32, offset: usize, into: &mut [u8]) -> bool {
        let Some(from) = self.bytes.get(offset..offset + into.len()) else { return false };
        into.copy_from_slice(from);
        true
    }
    fn write(&self, _slot: u32, _offset: usize, _from: &[u8]) -> bool {
        false
    }
    fn prefault(&self, _slot: u32, _offset: usize, _len: usize) {}
    fn set_word(&self, _slot: u32, _word: SlotWord) {}
}

fn main() -> Result<(), Box<dyn Error>> {
    let requests = std::env::args().nth(1).map_or(Ok(200_000), |n| n.parse())?;
    for slots in [1, 100, 1_000, 10_000] {
        measure(slots, requests)?;
    }
    whole_slot()
}
