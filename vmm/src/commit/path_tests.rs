//! The whole path, owner and standby: frames, captures, bodies, acknowledgements in any interleaving, and a failover.

#![allow(clippy::unwrap_used)]

use super::capture::{Capture, CaptureLimits, Capturer};
use super::checkpoint::Checkpoint;
use super::coverage::Coverage;
use super::frame::{Frame, Source, parse};
use super::image::ImageStore;
use super::protected_ports::ProtectedPorts;
use super::quota::HoldLimits;
use super::segment::TcpFlags;
use super::slice_id::SliceId;
use super::slot_image::Role;
use super::test_frames::{FrameBuilder, SERVICE_IP, flow};
use super::test_memory::{TestMemory, meta};
use super::valve::Valve;
use super::valve_config::{BreachPolicy, Mode, Rule, ValveConfig};
use super::verdict::Verdict;
use crate::memory::slot_memory::SlotMemory;
use escape_abi::ConnectionNumbers;
use proptest::prelude::*;
use std::collections::VecDeque;

const SLOTS: u32 = 3;

fn slice(slot: u32) -> SliceId {
    SliceId { slot, incarnation: 7 }
}

struct InFlight {
    slice: SliceId,
    checkpoint: Checkpoint,
    coverage: Coverage,
    body: Vec<u8>,
}

/// An owner with a model guest that answers each request with one byte, and its standby.
struct Pair {
    memory: TestMemory,
    valve: Valve,
    capturer: Capturer,
    owner: ImageStore,
    standby: ImageStore,
    to_standby: VecDeque<InFlight>,
    acknowledged: VecDeque<(SliceId, Coverage)>,
    answered: [u32; SLOTS as usize],
    seen_by_client: [u32; SLOTS as usize],
}

impl Pair {
    fn new() -> Self {
        let mut valve = Valve::new(ValveConfig {
            n_slots: SLOTS,
            service_ip: SERVICE_IP,
            protected_ports: ProtectedPorts::new(&[80]).unwrap(),
            unprotected_output: false,
            mode: Mode::Protect,
            limits: HoldLimits::default(),
            rule: Rule::Generation,
            on_breach: BreachPolicy::Panic,
        });
        let (mut owner, mut standby) = (ImageStore::new(SLOTS).unwrap(), ImageStore::new(SLOTS).unwrap());
        for slot in 0..SLOTS {
            let flow = flow(slot as u16);
            valve.saw_syn(flow, 0, 0);
            valve.bind(slice(slot), flow, 0).unwrap();
            owner.create(slice(slot), flow, Role::Shadow).unwrap();
            standby.create(slice(slot), flow, Role::Standby).unwrap();
        }
        Self {
            memory: TestMemory::new(SLOTS),
            valve,
            capturer: Capturer::new(CaptureLimits::default()),
            owner,
            standby,
            to_standby: VecDeque::new(),
            acknowledged: VecDeque::new(),
            answered: [0; SLOTS as usize],
            seen_by_client: [0; SLOTS as usize],
        }
    }

    /// The guest answers a request; the VMM takes the frame while the reference is held, or after it.
    fn request(&mut self, slot: u32, take_early: bool) {
        assert!(self.memory.get_ref(slot));
        let n = self.answered[slot as usize];
        self.answered[slot as usize] += 1;
        self.memory.store(slot, 0, u64::from(n + 1));
        self.memory.store(slot, 64 + (n as usize % 32) * 64, u64::from(n) * 3);
        let frame = FrameBuilder::new(flow(slot as u16))
            .seq(n)
            .ack(n + 1)
            .flags(TcpFlags::ACK | TcpFlags::PSH)
            .payload(&[n as u8])
            .sent_by_guest();
        if take_early {
            self.take(slot, &frame);
        }
        let mut published = meta(7, &[(0, 64 * 33)]);
        (published.numbers[0], published.requests) =
            (ConnectionNumbers { rcv_nxt: n + 1, snd_nxt: n + 1 }, u64::from(n + 1));
        self.memory.put_ref(slot, &published);
        if !take_early {
            self.take(slot, &frame);
        }
    }

    fn take(&mut self, slot: u32, frame: &[u8]) {
        match self.valve.submit(frame, &self.memory, 0) {
            Verdict::Held { .. } => {}
            Verdict::Send => self.client_receives(slot, frame.to_vec()),
            other => panic!("{other:?}"),
        }
    }

    fn capture(&mut self) {
        let Some(slice) = self.valve.next_waiting() else { return };
        match self.capturer.capture(slice, &self.memory, &mut self.owner, &|| 0).unwrap() {
            Capture::Captured(c) => {
                let (checkpoint, coverage, body) = (c.checkpoint, c.coverage, c.body.to_vec());
                self.valve.note_captured(slice, coverage.generation);
                self.to_standby.push_back(InFlight { slice, checkpoint, coverage, body });
            }
            Capture::Unchanged { generation } => self.valve.note_captured(slice, generation),
            Capture::Referenced => self.valve.want_capture(slice),
        }
    }

    fn apply(&mut self) {
        let Some(sent) = self.to_standby.pop_front() else { return };
        let applied = self.standby.apply(sent.slice, &sent.checkpoint, &sent.body).unwrap();
        assert_eq!((applied.generation, applied.hash), (sent.coverage.generation, sent.checkpoint.hash));
        self.acknowledged.push_back((sent.slice, sent.coverage));
    }

    fn release(&mut self) {
        let Some((slice, coverage)) = self.acknowledged.pop_front() else { return };
        let mut frames = Vec::new();
        self.valve.release(slice.slot, &coverage, &mut |frame| frames.push(frame.to_vec()));
        for frame in frames {
            self.client_receives(slice.slot, frame);
        }
    }

    /// The client's oracle: in order, each once, and the standby already knows the answer (P1, I1, I6).
    fn client_receives(&mut self, slot: u32, frame: Vec<u8>) {
        let Frame::Tcp(segment) = parse(&frame, Source::Guest) else { panic!("not TCP") };
        let seen = &mut self.seen_by_client[slot as usize];
        assert_eq!(segment.seq, *seen, "slot {slot}: out of order, lost or doubled");
        *seen += 1;
        let image = self.standby.get(slice(slot)).unwrap();
        let requests = image.published.as_ref().map_or(0, |p| p.requests);
        assert!(requests >= u64::from(*seen), "slot {slot}: client saw {seen}, standby has {requests}");
    }

    /// The owner dies: the standby's state goes into another guest, and is the owner's state at some answer.
    fn fail_over(mut self) {
        let elsewhere = TestMemory::new(SLOTS);
        for slot in 0..SLOTS {
            if self.standby.get(slice(slot)).unwrap().published.is_none() {
                assert_eq!(self.seen_by_client[slot as usize], 0);
                continue;
            }
            let installed = self.standby.install(slice(slot), &elsewhere).unwrap();
            let mut bytes = vec![0; 64 * 33];
            assert!(elsewhere.read(slot, 0, &mut bytes));
            let word = |at: usize| u64::from_le_bytes(*bytes[at..].first_chunk().unwrap());
            let requests = word(0);
            assert_eq!(requests, installed.generation);
            assert!(requests >= u64::from(self.seen_by_client[slot as usize]));
            for n in requests.saturating_sub(32)..requests {
                assert_eq!(word(64 + (n as usize % 32) * 64), n * 3);
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Request { slot: u32, take_early: bool },
    Capture,
    Apply,
    Release,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..SLOTS, any::<bool>()).prop_map(|(slot, take_early)| Step::Request { slot, take_early }),
        2 => Just(Step::Capture),
        2 => Just(Step::Apply),
        2 => Just(Step::Release),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// The owner may die between any two steps.
    #[test]
    fn no_client_sees_what_a_failover_would_lose(steps in proptest::collection::vec(step(), 1..300)) {
        let mut pair = Pair::new();
        for step in steps {
            match step {
                Step::Request { slot, take_early } => pair.request(slot, take_early),
                Step::Capture => pair.capture(),
                Step::Apply => pair.apply(),
                Step::Release => pair.release(),
            }
        }
        pair.fail_over();
    }

    /// And with no fault everything leaves.
    #[test]
    fn everything_leaves_in_the_end(steps in proptest::collection::vec((0..SLOTS, any::<bool>()), 1..60)) {
        let mut pair = Pair::new();
        for (slot, take_early) in steps {
            pair.request(slot, take_early);
            pair.capture();
        }
        for _ in 0..200 {
            pair.capture();
            pair.apply();
            pair.release();
        }
        prop_assert_eq!(pair.seen_by_client, pair.answered);
        prop_assert_eq!(pair.valve.held_bytes(), 0);
        pair.fail_over();
    }
}
