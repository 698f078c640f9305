//! From SYN to slot free: who gets a slot, who gets silence, and what the host is told.

#![allow(clippy::unwrap_used)]

mod support;

use escape_abi::message::{Flow, refusal};
use escape_abi::{GuestMessage, HostMessage, SlotWord};
use smoltcp::socket::tcp::State;
use support::client::Manual;
use support::guest::{Guest, params, turn_lock};
use support::http::Reply;
use support::segment::{ACK, FIN, RST, SYN, Segment};
use support::{HTTP, IMAGE_ID, MS, SECOND, STREAM, World, arena::Arena};

fn segment(flow: Flow, seq: u32, ack: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    Segment::new(flow, seq, ack, flags).payload(payload).frame()
}

fn flow(n: u32) -> Flow {
    let [_, a, b, c] = n.to_be_bytes();
    Flow { ip: [10, 200 + a, b, c], port: 1000 + (n % 50_000) as u16, service_port: HTTP }
}

fn word(frame: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(frame[at..at + 4].try_into().unwrap())
}

/// A guest alone, with hand-made clients.
struct Lone {
    guest: Guest,
    /// Must outlive the guest.
    _arena: Arena,
    now: i64,
    deadline: Option<i64>,
}

impl Lone {
    fn new(n_slots: u32) -> Self {
        let arena = Arena::new(n_slots);
        let mut guest = Guest::new(&params(1, n_slots), 77, &arena, 0);
        for first in (0..n_slots).step_by(64) {
            guest.lease(first, 1);
        }
        Self { guest, _arena: arena, now: SECOND, deadline: None }
    }
    /// One turn; what it sent and said.
    fn turn(&mut self, frames: &[Vec<u8>]) -> (Vec<Vec<u8>>, Vec<GuestMessage>) {
        let _lock = turn_lock();
        self.guest.set_time(self.now);
        for f in frames {
            self.guest.server.on_frame(f);
        }
        self.deadline = self.guest.server.on_timers();
        self.guest.take()
    }
    fn wait(&mut self, us: i64) -> (Vec<Vec<u8>>, Vec<GuestMessage>) {
        let (end, mut frames, mut messages) = (self.now + us, vec![], vec![]);
        while self.deadline.is_some_and(|d| d <= end) {
            self.now = self.deadline.unwrap().max(self.now + 1);
            let (f, m) = self.turn(&[]);
            frames.extend(f);
            messages.extend(m);
        }
        self.now = end;
        (frames, messages)
    }
    /// Handshake; returns the server's next sequence number, ours, and the slot.
    fn establish(&mut self, flow: Flow) -> (u32, u32, u32, u64) {
        let (frames, messages) = self.turn(&[segment(flow, 5000, 0, SYN, &[])]);
        let [GuestMessage::Bind { slot, incarnation, flow: bound, place: 0, serial: 0 }] = messages[..] else {
            panic!("{messages:?}")
        };
        assert_eq!((bound, frames.len()), (flow, 1));
        let theirs = word(&frames[0], 38).wrapping_add(1);
        self.turn(&[segment(flow, 5001, theirs, ACK, &[])]);
        (theirs, 5001, slot, incarnation)
    }
}

#[test]
fn unknown_flows_and_ports_get_silence() {
    let mut lone = Lone::new(64);
    let closed = Flow { service_port: 81, ..flow(1) };
    let mut garbled = segment(flow(1), 1, 0, SYN, &[]);
    garbled[41] ^= 1;
    let mut fragment = segment(flow(1), 1, 0, SYN, &[]);
    fragment[20] = 0x20;
    let frames = [
        segment(flow(1), 1, 1, ACK, b"data"),
        segment(flow(1), 1, 1, RST, &[]),
        segment(flow(1), 1, 1, FIN | ACK, &[]),
        segment(flow(1), 1, 1, SYN | ACK, &[]),
        segment(closed, 1, 0, SYN, &[]),
        garbled,
        fragment,
    ];
    assert_eq!(lone.turn(&frames), (vec![], vec![]));
    let c = lone.guest.server.counters();
    assert_eq!((c.unknown_flow, c.closed_port, c.bad_checksum, c.not_for_us, c.opened), (4, 1, 1, 1, 0));
}

#[test]
fn bind_comes_before_the_syn_ack_and_without_room_for_it_there_is_none() {
    let mut lone = Lone::new(64);
    lone.guest.server.host().message_room = 0;
    assert_eq!(lone.turn(&[segment(flow(1), 1, 0, SYN, &[])]), (vec![], vec![]));
    lone.guest.server.host().message_room = 10;
    let (frames, messages) = lone.turn(&[segment(flow(1), 1, 0, SYN, &[])]);
    assert_eq!((frames.len(), messages.len()), (1, 1));
    assert_eq!(frames[0][47], SYN | ACK);
    assert_eq!(frames[0][..6], [6; 6]);
    let word = lone.guest.control.word(0);
    assert!(word.quiescent() && word.generation() >= 1, "{word:?}");
}

#[test]
fn a_flood_of_syns_takes_256_slots_for_5_seconds() {
    let mut lone = Lone::new(1024);
    let flood: Vec<_> = (0..2000).map(|n| segment(flow(n), 1, 0, SYN, &[])).collect();
    let (frames, messages) = lone.turn(&flood);
    assert_eq!((frames.len(), messages.len(), lone.guest.server.sessions()), (256, 256, 256));
    assert!(frames.iter().all(|f| f[47] & RST == 0));
    let (_, messages) = lone.wait(4900 * MS);
    assert!(messages.iter().all(|m| !matches!(m, GuestMessage::Close { .. })), "{messages:?}");
    let (_, messages) = lone.wait(200 * MS);
    let closes = messages.iter().filter(|m| matches!(m, GuestMessage::Close { .. })).count();
    assert_eq!((closes, lone.guest.server.sessions()), (256, 0));
    assert_eq!(lone.guest.server.counters().syn_limited, 2000 - 256);
    // And it takes connections again: others' slots, for these are not free yet.
    let (frames, _) = lone.turn(&[segment(flow(9), 1, 0, SYN, &[])]);
    assert_eq!(frames.len(), 1);
}

#[test]
fn no_slot_left_is_silence_and_a_slot_is_used_again_only_when_it_is_free() {
    let mut lone = Lone::new(64);
    let mut first = None;
    for n in 0..64 {
        let made = lone.establish(flow(n));
        first.get_or_insert(made);
    }
    assert_eq!(lone.turn(&[segment(flow(64), 1, 0, SYN, &[])]), (vec![], vec![]));
    let (theirs, ours, slot, incarnation) = first.unwrap();
    // The client closes; the server's FIN, our ACK.
    let (frames, _) = lone.turn(&[segment(flow(0), ours, theirs, FIN | ACK, &[])]);
    assert_eq!(frames.last().map(|f| f[47] & FIN), Some(FIN));
    let (frames, messages) = lone.turn(&[segment(flow(0), ours + 1, theirs + 1, ACK, &[])]);
    assert_eq!((frames, messages), (vec![], vec![GuestMessage::Close { slot, incarnation }]));
    assert_eq!(lone.guest.control.meta(slot).flags, 1);
    assert_eq!(lone.turn(&[segment(flow(64), 1, 0, SYN, &[])]), (vec![], vec![]));
    lone.guest.server.on_message(HostMessage::SlotFree { slot, incarnation });
    // The old connection's addresses may come again at once.
    let (_, messages) = lone.turn(&[segment(flow(0), 9, 0, SYN, &[])]);
    let want = GuestMessage::Bind { slot, incarnation: 1 << 32 | 65, flow: flow(0), place: 0, serial: 0 };
    assert_eq!(messages, vec![want]);
}

#[test]
fn server_closes_first_and_the_slot_does_not_wait_for_time_wait() {
    let mut lone = Lone::new(64);
    let (theirs, ours, slot, incarnation) = lone.establish(flow(0));
    let request = b"GET /session HTTP/1.0\r\n\r\n";
    let (frames, _) = lone.turn(&[segment(flow(0), ours, theirs, ACK, request)]);
    let last = frames.last().unwrap();
    assert_eq!(last[47] & FIN, FIN);
    let end = word(last, 38) + (last.len() as u32 - 54) + 1;
    let ours = ours + request.len() as u32;
    let (frames, messages) = lone.turn(&[segment(flow(0), ours, end, FIN | ACK, &[])]);
    assert_eq!(frames.len(), 1, "the ACK of the client's FIN does not wait");
    assert_eq!(word(&frames[0], 42), ours + 1);
    assert!(messages.contains(&GuestMessage::Close { slot, incarnation }), "{messages:?}");
    let meta = lone.guest.control.meta(slot);
    assert_eq!((meta.numbers[0].rcv_nxt, meta.numbers[0].snd_nxt, meta.requests), (ours + 1, end, 1));
}

/// smoltcp 0.14 forgets a lost FIN after three duplicate ACKs.
#[test]
fn a_lost_fin_is_sent_again_in_spite_of_duplicate_acks() {
    let mut lone = Lone::new(64);
    let (theirs, ours, ..) = lone.establish(flow(0));
    let request = b"GET /session HTTP/1.0\r\n\r\n";
    let (frames, _) = lone.turn(&[segment(flow(0), ours, theirs, ACK, request)]);
    let fin = frames.last().unwrap();
    let end = word(fin, 38) + (fin.len() as u32 - 54);
    let ours = ours + request.len() as u32;
    let acks = vec![segment(flow(0), ours, end, ACK, &[]); 6];
    assert!(lone.turn(&acks).0.is_empty());
    let (frames, _) = lone.wait(SECOND / 2);
    assert!(frames.len() >= 2, "{}", frames.len());
    assert!(frames.iter().all(|f| f[47] & FIN != 0 && word(f, 38) == end && f.len() == 54));
}

#[test]
fn only_the_exact_rst_ends_a_connection() {
    let mut lone = Lone::new(64);
    let (theirs, ours, slot, incarnation) = lone.establish(flow(0));
    let (frames, _) = lone.turn(&[segment(flow(0), ours + 1, theirs, RST, &[])]);
    assert_eq!(frames.len(), 1, "a challenge");
    assert_eq!(word(&frames[0], 42), ours);
    // No second challenge within a second.
    assert_eq!(lone.turn(&[segment(flow(0), ours - 1, theirs, RST, &[])]).0.len(), 0);
    assert_eq!(lone.turn(&[segment(flow(0), 77_777, 0, SYN, &[])]).0.len(), 0);
    assert_eq!(lone.guest.server.sessions(), 1);
    let (frames, messages) = lone.turn(&[segment(flow(0), ours, theirs, RST, &[])]);
    assert_eq!((frames, messages), (vec![], vec![GuestMessage::Close { slot, incarnation }]));
    assert_eq!(lone.guest.server.counters().wrong_rst, 2);
}

#[test]
fn held_slots_wait_and_lose_nothing() {
    let mut lone = Lone::new(64);
    let (theirs, ours, slot, _) = lone.establish(flow(0));
    let before = lone.guest.control.word(slot);
    lone.guest.control.hold(slot, true);
    let request = b"POST /counter HTTP/1.1\r\nHost: x\r\n\r\n";
    let (a, b) = request.split_at(10);
    let frames = [segment(flow(0), ours, theirs, ACK, a), segment(flow(0), ours + 10, theirs, ACK, b)];
    let (out, _) = lone.turn(&frames);
    assert!(out.is_empty() && lone.guest.control.word(slot) == before);
    assert!(lone.deadline.is_some_and(|d| d <= lone.now + 100), "asks to be called again soon");
    lone.guest.control.hold(slot, false);
    let (out, _) = lone.turn(&[]);
    assert!(out[0].windows(9).any(|w| w == b"200 OK\r\nC"));
    assert_ne!(lone.guest.control.word(slot), before);
    assert_eq!(lone.guest.server.counters().deferred, 2);
}

#[test]
fn full_rings_delay_but_lose_nothing() {
    let mut world = World::new(9, 64);
    let n = world.connect(HTTP, Box::new(Manual));
    world.run_for(SECOND);
    world.guest.server.host().frame_room = 3;
    world.clients[n].outgoing.extend(b"GET /bytes?n=400000 HTTP/1.1\r\nHost: x\r\n\r\n");
    world.poll_client(n);
    world.run_until(100 * SECOND, |w| {
        let mut copy = w.clients[n].incoming.clone();
        Reply::take(&mut copy, false).is_some_and(|r| escape_session::pattern::count_wrong(&r.body, 0) == 0)
    });
    assert_eq!(world.guest.server.counters().frames_lost, 0);
}

#[test]
fn silent_clients_are_asked_and_then_given_up_in_silence() {
    let mut lone = Lone::new(64);
    let (theirs, ours, slot, incarnation) = lone.establish(flow(0));
    lone.wait(59 * SECOND);
    let (frames, _) = lone.wait(2 * SECOND);
    assert_eq!(frames.len(), 1, "a probe");
    assert_eq!(word(&frames[0], 38), theirs - 1);
    lone.turn(&[segment(flow(0), ours, theirs, ACK, &[])]);
    let (frames, messages) = lone.wait(109 * SECOND);
    assert_eq!(frames.len(), 5, "probes");
    assert!(!messages.contains(&GuestMessage::Close { slot, incarnation }));
    let (frames, messages) = lone.wait(3 * SECOND);
    assert_eq!((frames.len(), messages), (0, vec![GuestMessage::Close { slot, incarnation }]));
    assert_eq!(lone.guest.server.counters().abandoned, 1);
}

#[test]
fn idle_sessions_are_closed() {
    let arena = Arena::new(64);
    let mut p = params(1, 64);
    p.idle_timeout_s = 7;
    let mut guest = Guest::new(&p, 5, &arena, 0);
    guest.lease(0, 1);
    let mut lone = Lone { guest, _arena: arena, now: SECOND, deadline: None };
    lone.establish(flow(0));
    let (frames, _) = lone.wait(6900 * MS);
    assert!(frames.is_empty());
    let (frames, _) = lone.wait(200 * MS);
    assert_eq!(frames.first().map(|f| f[47] & FIN), Some(FIN));
}

#[test]
fn lost_output_is_sent_again_soon_and_then_more_rarely() {
    let mut lone = Lone::new(64);
    let (theirs, ours, ..) = lone.establish(flow(0));
    lone.turn(&[segment(flow(0), ours, theirs, ACK, b"GET /session HTTP/1.1\r\nHost: x\r\n\r\n")]);
    let mut at = vec![];
    let start = lone.now;
    while lone.now < start + 4 * SECOND {
        let (frames, _) = lone.wait(MS);
        at.extend(frames.iter().map(|_| (lone.now - start) / MS));
    }
    assert!(at[0] <= 60 && (4..12).contains(&at.len()), "{at:?}");
}

#[test]
fn unplug_discard_and_refusals() {
    let mut world = World::new(11, 64);
    let n = world.connect(HTTP, Box::new(Manual));
    world.clients[n].outgoing.extend(b"PUT /kv/a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc");
    world.run_for(SECOND);
    let (slot, incarnation) = *world.bound.values().next().unwrap();
    let image = world.images[&slot].clone();
    let say = |w: &mut World, m| {
        let _lock = turn_lock();
        w.guest.server.on_message(m);
        w.guest.server.on_timers();
        w.guest.take()
    };
    // Unplug waits for a hold's end only in so far as references go; nothing is referenced between turns.
    let (frames, messages) = say(&mut world, HostMessage::Unplug { slot, incarnation });
    assert_eq!((frames.len(), messages), (0, vec![GuestMessage::Unplugged { slot, incarnation }]));
    assert_eq!(world.guest.server.sessions(), 0);
    let plug = HostMessage::Plug { slot, incarnation };
    let answer = |status| GuestMessage::Plugged { slot, incarnation, status };
    // Another incarnation, another image, damaged headers.
    let other = HostMessage::Plug { slot, incarnation: incarnation + 1 };
    assert_eq!(
        say(&mut world, other).1,
        vec![GuestMessage::Plugged { slot, incarnation: incarnation + 1, status: refusal::BAD_HEADER }]
    );
    world.arena.poke(slot, 8, !(IMAGE_ID as u8));
    assert_eq!(say(&mut world, plug).1, vec![answer(refusal::WRONG_IMAGE)]);
    world.arena.poke(slot, 8, IMAGE_ID as u8);
    world.arena.poke(slot, 0, 0);
    assert_eq!(say(&mut world, plug).1, vec![answer(refusal::BAD_HEADER)]);
    let mut rng = support::Rng(1);
    world.arena.restore(slot, &image, &mut rng);
    let (frames, messages) = say(&mut world, plug);
    assert_eq!((frames.len(), messages), (0, vec![answer(0), GuestMessage::Changed { slot }]));
    assert_eq!(say(&mut world, plug).1, vec![answer(refusal::BUSY)]);
    // Nothing was outstanding, so its peer is told where it is a little later, once.
    let greetings = [25 * MS, 60 * MS].map(|after| {
        let _lock = turn_lock();
        world.guest.set_time(world.now + after);
        world.guest.server.on_timers();
        world.guest.take().0.len()
    });
    assert_eq!(greetings, [1, 0]);
    // Discard is silence.
    let (frames, messages) = say(&mut world, HostMessage::Discard { slot, incarnation });
    assert_eq!((frames.len(), messages), (0, vec![GuestMessage::Unplugged { slot, incarnation }]));
    // The session is still whole.
    world.arena.restore(slot, &image, &mut rng);
    say(&mut world, plug);
    world.clients[n].incoming.clear();
    world.clients[n].outgoing.extend(b"GET /kv/a HTTP/1.1\r\nHost: x\r\n\r\n");
    world.poll_client(n);
    world.run_for(SECOND);
    assert_eq!(Reply::take(&mut world.clients[n].incoming, false).unwrap().body, b"abc");
    assert_eq!(world.clients[n].state(), State::Established);
}

#[test]
fn a_poisoned_slot_stays_referenced_until_the_host_gives_it_up() {
    let mut lone = Lone::new(64);
    let (theirs, ours, slot, incarnation) = lone.establish(flow(0));
    let (.., other, _) = lone.establish(flow(1));
    // As a fault handler finds it: a reference is out.
    let word = lone.guest.control.word(slot);
    lone.guest.control.set_word(slot, SlotWord::new(word.generation(), 1));
    lone.guest.server.poison(slot, 14);
    let (frames, messages) = lone.turn(&[segment(flow(0), ours, theirs, ACK, b"GET / HTTP/1.1\r\n\r\n")]);
    assert!(frames.is_empty());
    assert_eq!(messages, vec![GuestMessage::Poisoned { slot, incarnation, cause: 14 }]);
    assert_eq!(lone.guest.control.word(slot).refs(), 1, "its bytes are not to be captured");
    assert_eq!((lone.guest.server.sessions(), lone.guest.server.referenced()), (1, None));
    lone.guest.server.on_message(HostMessage::Discard { slot, incarnation });
    assert_eq!(lone.guest.control.word(slot), SlotWord::new(word.generation(), 0));
    assert_eq!(lone.turn(&[]).1, vec![GuestMessage::Unplugged { slot, incarnation }]);
    lone.guest.server.on_message(HostMessage::SlotFree { slot, incarnation });
    let (.., again, _) = lone.establish(flow(2));
    assert_eq!((again, lone.guest.control.word(other).refs()), (slot, 0));
}

#[test]
fn ten_thousand_sessions() {
    let n_slots = 10_048;
    let mut lone = Lone::new(n_slots);
    let mut ends = Vec::new();
    for n in 0..10_000 {
        ends.push(lone.establish(flow(n)));
    }
    assert_eq!(lone.guest.server.sessions(), 10_000);
    for (n, (theirs, ours, ..)) in ends.iter().enumerate() {
        let stream = segment(flow(n as u32), *ours, *theirs, ACK, b"POST /counter HTTP/1.1\r\nHost: x\r\n\r\n");
        let (frames, _) = lone.turn(&[stream]);
        let text = String::from_utf8_lossy(&frames[0][54..]).into_owned();
        assert!(text.contains("X-Requests: 1\r\n") && text.ends_with("\r\n\r\n1\n"), "{n}: {text}");
    }
}

#[test]
fn the_stream_port_counts_and_ends() {
    let mut world = World::new(21, 64);
    let n = world.connect(STREAM, Box::new(support::http::Stream::new(300_000)));
    world.run_until(100 * SECOND, |w| w.clients[n].app.done());
    world.run_for(SECOND);
    assert_eq!((world.guest.server.sessions(), world.guest.server.counters().closed), (0, 1));
}
