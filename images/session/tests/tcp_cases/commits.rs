//! Commits and what leaves with them: T1, T2, T3, T5, T6, T40.

use crate::kills::{COUNT, On, assert_counts, replies, run_to_the_end};
use crate::support::client::{Manual, Options};
use crate::support::guest::{flow_of, turn_lock};
use crate::support::http::{Checked, Stream};
use crate::support::oracle::{Committed, Oracle};
use crate::support::raw::Raw;
use crate::support::segment::{ACK, FIN, RST, SYN, Segment};
use crate::support::world::{Kill, Survives};
use crate::support::{HTTP, MS, SECOND, STREAM, World};
use escape_abi::message::Flow;
use escape_session::{chain, pattern};

/// A judge that has seen the SYN-ACK of a connection with initial sequence number 100, and 10 bytes `a`; and how to ask it.
struct Judge(Oracle, Flow);

impl Judge {
    fn new() -> Self {
        let flow = Flow { ip: [10, 9, 9, 9], port: 9, service_port: HTTP };
        let mut judge = Self(Oracle::default(), flow);
        judge.ask(Segment::new(flow, 100, 501, SYN | ACK).options(&stamp(50)));
        judge.ask(judge.data(101, b"aaaaaaaaaa"));
        judge
    }
    fn data(&self, seq: u32, payload: &[u8]) -> Segment {
        Segment::new(self.1, seq, 501, ACK).payload(payload).options(&stamp(50))
    }
    /// Judges a segment under a commit of what the server has sent up to 120 and received up to 501.
    fn ask(&mut self, segment: Segment) {
        let committed = Committed { incarnation: 1, rcv_nxt: 501, snd_nxt: 120 };
        self.0.on_release(self.1, &segment.frame(), committed, 1460);
    }
}

fn stamp(value: u32) -> Vec<u8> {
    [&[8, 10][..], &value.to_be_bytes(), &[0; 4]].concat()
}

/// The judge that all other tests rely on says no: one forbidden frame each.
#[test]
fn t01_t02_t40_the_judge_refuses_what_it_must() {
    type Forbidden = (&'static str, fn(&Judge) -> Segment);
    let forbidden: [Forbidden; 11] = [
        ("beyond the commit", |j| j.data(111, &[b'b'; 10])),
        ("FIN beyond the commit", |j| Segment { flags: ACK | FIN, ..j.data(120, b"") }),
        ("ack beyond the commit", |j| Segment { ack: 502, ..j.data(111, b"") }),
        ("ack goes back", |j| Segment { ack: 500, ..j.data(111, b"") }),
        ("other bytes", |j| j.data(105, b"aab")),
        ("a lone other byte that nobody has acknowledged", |j| j.data(110, b"b")),
        ("TSval goes back", |j| j.data(111, b"").options(&stamp(49))),
        ("no timestamp", |j| j.data(111, b"").options(&[])),
        ("a reset", |j| Segment { flags: ACK | RST, ..j.data(111, b"") }),
        ("another SYN-ACK", |j| Segment { flags: SYN | ACK, ..j.data(101, b"") }),
        ("before the SYN-ACK", |j| j.data(90, b"a")),
    ];
    for (what, segment) in forbidden {
        let asked = std::panic::catch_unwind(|| {
            let mut judge = Judge::new();
            let segment = segment(&judge);
            judge.ask(segment);
        });
        assert!(asked.is_err(), "{what}");
    }
    let mut judge = Judge::new();
    judge.ask(judge.data(105, b"aaaaaabbbb"));
    judge.ask(Segment { flags: ACK | FIN, ..judge.data(119, b"") }.options(&stamp(51)));
    assert_eq!(judge.0.compared, 6);
}

/// A host that releases before the commit is found out by the judge.
#[test]
#[should_panic(expected = "beyond the commit")]
fn t01_release_before_commit_is_noticed() {
    let mut world = World::new(1, 64);
    let flow = Raw::flow(&mut world, 1, HTTP);
    let peer = Raw::connect(&mut world, flow, 1, &[]);
    world.guest.set_time(world.now);
    {
        let _lock = turn_lock();
        world.guest.server.on_frame(&peer.at(0, ACK, COUNT).frame());
    }
    let (frames, _) = world.guest.take();
    assert!(frames.iter().all(|f| flow_of(f) == Some(flow)) && !frames.is_empty());
    frames.into_iter().for_each(|f| world.release(f));
}

/// 1 MB up, commits every 10 ms, deaths in between: coverage goes on inside one request, whatever the segment size.
#[test]
fn t03_upload_of_a_megabyte_with_commits_every_10_ms() {
    for mtu in [576, 1280, 1500, 9000] {
        for deaths in [0, 3] {
            let _on = On((mtu, deaths));
            let mut world = World::new(3, 64);
            (world.commit_every, world.mirror_loss_percent) = (10 * MS, 0);
            let n = world.connect_with(HTTP, Options { mtu, ..Options::default() }, Box::new(Manual));
            let body: Vec<u8> = (0..1_000_000).map(pattern::pattern).collect();
            let outgoing = &mut world.clients[n].outgoing;
            outgoing.extend(b"PUT /bytes HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n");
            outgoing.extend(&body);
            world.poll_client(n);
            for death in 0..deaths {
                world.run_for(90 * MS);
                world.step(Some(Survives::ALL[death]));
                world.failover();
            }
            world.run_until(30 * SECOND, |w| w.clients[n].incoming.ends_with(b"}\n"));
            let hash: String = chain::hash(&body).iter().map(|b| format!("{b:02x}")).collect();
            let want = format!("{{\"bytes\":1000000,\"wrong\":0,\"blake3\":\"{hash}\"}}\n");
            assert_eq!(replies(&mut world, n)[0].body, want.into_bytes());
        }
    }
}

/// The same both ways at once, on the stream port.
#[test]
fn t03_a_megabyte_each_way_with_commits_every_10_ms() {
    for mtu in [576, 1500] {
        let mut world = World::new(33, 64);
        world.commit_every = 10 * MS;
        world.connect_with(STREAM, Options { mtu, ..Options::default() }, Box::new(Stream::new(1_000_000)));
        for survives in Survives::ALL {
            world.run_for(150 * MS);
            world.step(Some(survives));
            world.failover();
        }
        run_to_the_end(&mut world, 60 * SECOND);
    }
}

/// The time that output is held goes from 5 ms to 1 s and back: no byte is lost, and what the guest sends again meanwhile is bounded
/// by its back-off: it cannot fill the host.
#[test]
fn t05_hold_steps_cost_few_duplicates() {
    let mut world = World::new(5, 64);
    let n = world.connect_with(HTTP, Options::default(), Box::new(Manual));
    world.run_for(100 * MS);
    for (round, delay) in [5, 5, 200, 1000, 1000, 5, 5].into_iter().enumerate() {
        world.commit_delay = delay * MS;
        let (before, start) = (world.oracle.frames, world.now);
        world.clients[n].outgoing.extend(COUNT);
        world.poll_client(n);
        world.run_until(8 * SECOND, |w| w.clients[n].incoming.ends_with(format!("\r\n\r\n{}\n", round + 1).as_bytes()));
        world.run_for(2 * SECOND);
        let (frames, took) = (world.oracle.frames - before, world.now - start - 2 * SECOND);
        assert!(frames <= 12 && took <= (delay + 20) * MS, "{delay} ms: {frames} frames, {took} us");
    }
    assert_counts(&replies(&mut world, n), 1);
}

/// A death between commit and release: the reply is nowhere but in the image, and leaves the new owner with its plug. The client does
/// not have to ask again.
#[test]
fn t06_kill_between_commit_and_release() {
    let mut world = World::new(6, 64);
    (world.gap, world.mirror_loss_percent) = (0, 100);
    let n = world.connect_with(HTTP, Options::default(), Box::new(Manual));
    world.run_for(100 * MS);
    for round in 1..20u64 {
        world.clients[n].outgoing.extend(COUNT);
        world.poll_client(n);
        world.plan = Some(Kill { turn: world.turns, survives: Survives::Commit, again: None });
        let start = world.now;
        world.run_until(SECOND, |w| w.clients[n].incoming.ends_with(format!("\r\n\r\n{round}\n").as_bytes()));
        assert!(world.now - start <= 3 * MS, "round {round}: {} us", world.now - start);
        world.run_for(100 * MS);
    }
    assert_eq!(world.failovers, 19);
}

/// Replies that differ from run to run (their tokens are drawn by the guest) and deaths with every outcome: bytes that left once are the
/// bytes of every later owner. The world compares all of them; here they are many.
#[test]
fn t40_released_bytes_are_the_same_from_every_owner() {
    let mut world = World::new(40, 64);
    (world.loss_percent, world.jitter, world.commit_delay) = (5, 3000, 2 * MS);
    for n in 0..4 {
        world.connect_with(HTTP, Options::default(), Box::new(Checked::new(n, 60)));
    }
    for round in 0.. {
        world.run_for(50 * MS);
        if world.clients.iter().all(|c| c.app.done()) {
            break;
        }
        assert!(round < 4000, "stuck");
        world.step(Some(Survives::ALL[round % 4]));
        world.failover();
    }
    println!("{} frames, {} bytes compared, {} failovers", world.oracle.frames, world.oracle.compared, world.failovers);
    assert!(world.oracle.compared > 100_000 && world.failovers > 20);
}
