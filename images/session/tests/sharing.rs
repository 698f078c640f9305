//! Slices per client address: several connections, one slice.

#![allow(clippy::unwrap_used)]

mod support;

use escape_abi::meta::connection_bit;
use escape_abi::{BootParams, GuestMessage, HostMessage};
use smoltcp::socket::tcp::State;
use support::arena::Arena;
use support::client::{Manual, Options};
use support::guest::{Guest, flow_of, params, turn_lock};
use support::http::{Checked, Reply, Stream};
use support::segment::{ACK, SYN, Segment};
use support::world::Survives;
use support::{HTTP, MS, Rng, SECOND, STREAM, World, seed};

/// A client on machine 9.
fn connect(world: &mut World) -> usize {
    let options = Options { home: Some(9), ..Options::default() };
    world.connect_with(HTTP, options, Box::new(Manual))
}

fn ask(world: &mut World, client: usize, request: &str) -> Reply {
    world.clients[client].outgoing.extend(request.bytes());
    world.poll_client(client);
    answer(world, client)
}

fn answer(world: &mut World, client: usize) -> Reply {
    let mut reply = None;
    world.run_until(10 * SECOND, |w| {
        reply = Reply::take(&mut w.clients[client].incoming, false);
        reply.is_some()
    });
    reply.unwrap()
}

fn slots(world: &World) -> Vec<u32> {
    let mut slots: Vec<u32> = world.bound.values().map(|b| b.0).collect();
    slots.sort_unstable();
    slots.dedup();
    slots
}

fn present(world: &World) -> u32 {
    world.guest.control.meta(slots(world)[0]).connections
}

#[test]
fn all_connections_of_a_client_have_one_session_and_fail_over_together() {
    let mut world = World::shared(1, 64);
    let clients: Vec<usize> = (0..4).map(|_| connect(&mut world)).collect();
    let stranger = world.connect(HTTP, Box::new(Manual));
    for (n, client) in clients.iter().enumerate() {
        let count = ask(&mut world, *client, "POST /counter HTTP/1.1\r\nHost: t\r\n\r\n");
        assert_eq!(count.body, format!("{}\n", n + 1).into_bytes());
    }
    assert_eq!(ask(&mut world, stranger, "POST /counter HTTP/1.1\r\nHost: t\r\n\r\n").body, b"1\n");
    assert_eq!((world.guest.server.sessions(), slots(&world).len()), (2, 2));
    world.failover();
    let put = "PUT /kv/a HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\nhi";
    assert_eq!(ask(&mut world, clients[2], put).status, 201);
    world.failover();
    assert_eq!(ask(&mut world, clients[0], "GET /kv/a HTTP/1.1\r\nHost: t\r\n\r\n").body, b"hi");
    assert_eq!(ask(&mut world, stranger, "GET /kv/a HTTP/1.1\r\nHost: t\r\n\r\n").status, 404);
    assert!(world.clients.iter().all(|c| c.resets == 0));
}

#[test]
fn the_fifth_connection_waits_for_a_place_and_the_session_outlives_its_first_connection() {
    let mut world = World::shared(2, 64);
    let clients: Vec<usize> = (0..4).map(|_| connect(&mut world)).collect();
    world.run_for(100 * MS);
    let count = "POST /counter HTTP/1.1\r\nHost: t\r\n\r\n";
    assert_eq!(ask(&mut world, clients[0], count).body, b"1\n");
    let fifth = connect(&mut world);
    world.run_for(5 * SECOND);
    assert_eq!(world.clients[fifth].state(), State::SynSent);
    assert!(world.guest.server.counters().syn_no_room > 0);
    // The first connection ends; its place is free when that is committed.
    world.clients[clients[0]].fin = true;
    world.poll_client(clients[0]);
    world.run_until(20 * SECOND, |w| w.clients[fifth].state() == State::Established);
    assert_eq!(present(&world), 0b1111, "the fifth has the first one's place");
    assert_eq!(ask(&mut world, fifth, count).body, b"2\n");
    world.failover();
    assert_eq!(ask(&mut world, clients[3], count).body, b"3\n");
    // The slice ends with its last connection.
    for client in [clients[1], clients[2], clients[3], fifth] {
        assert_eq!(world.guest.server.sessions(), 1);
        world.clients[client].fin = true;
        world.poll_client(client);
        world.run_for(100 * MS);
    }
    assert_eq!((world.guest.server.sessions(), world.images.len(), world.bound.len()), (0, 0, 0));
    let last = connect(&mut world);
    assert_eq!(ask(&mut world, last, count).body, b"1\n", "another session");
}

#[test]
fn an_end_that_the_old_owner_had_committed_frees_its_place_at_the_new_one() {
    for survives in Survives::ALL {
        let mut world = World::shared(3, 64);
        let clients: Vec<usize> = (0..3).map(|_| connect(&mut world)).collect();
        world.run_for(100 * MS);
        let (flow, slot) = (world.flow(clients[1]), slots(&world)[0]);
        world.clients[clients[1]].fin = true;
        world.poll_client(clients[1]);
        world.run_until(SECOND, |w| {
            let bits = w.guest.control.meta(slot).connections;
            bits & connection_bit::ended(1) != 0
                || bits & connection_bit::present(1) == 0
                || !w.bound.contains_key(&flow)
        });
        world.step(Some(survives));
        world.failover();
        world.run_for(5 * SECOND);
        assert_eq!(present(&world), 0b101, "{survives:?}");
        let next = connect(&mut world);
        world.run_for(SECOND);
        assert_eq!((world.clients[next].state(), present(&world)), (State::Established, 0b111), "{survives:?}");
    }
}

#[test]
fn a_value_that_is_being_sent_is_not_freed() {
    for failover in [false, true] {
        let mut world = World::shared(4, 64);
        let (reader, writer) = (connect(&mut world), connect(&mut world));
        let value: Vec<u8> = (0..60_000u32).map(|n| (n / 7) as u8).collect();
        world.clients[writer].outgoing.extend(b"PUT /kv/v HTTP/1.1\r\nHost: t\r\nContent-Length: 60000\r\n\r\n");
        world.clients[writer].outgoing.extend(&value);
        world.poll_client(writer);
        assert_eq!(answer(&mut world, writer).status, 201);
        world.clients[reader].appetite = 0;
        world.clients[reader].outgoing.extend(b"GET /kv/v HTTP/1.1\r\nHost: t\r\n\r\n");
        world.poll_client(reader);
        world.run_for(SECOND);
        // Neither a deletion nor a new value may take the block away; what only reads goes on.
        for request in ["GET /session HTTP/1.1\r\nHost: t\r\n\r\n", "DELETE /kv/v HTTP/1.1\r\nHost: t\r\n\r\n"] {
            world.clients[writer].outgoing.extend(request.bytes());
        }
        world.poll_client(writer);
        assert_eq!(answer(&mut world, writer).status, 200);
        world.run_for(SECOND);
        assert!(world.clients[writer].incoming.is_empty(), "the deletion waits");
        if failover {
            world.failover();
        }
        world.clients[reader].appetite = usize::MAX;
        world.poll_client(reader);
        assert!(answer(&mut world, reader).body == value);
        assert_eq!(answer(&mut world, writer).status, 204);
        assert_eq!(ask(&mut world, reader, "GET /kv/v HTTP/1.1\r\nHost: t\r\n\r\n").status, 404);
    }
}

#[test]
fn what_a_lost_connection_had_begun_to_store_is_given_back() {
    let mut world = World::shared(6, 64);
    let stays = connect(&mut world);
    world.run_for(100 * MS);
    for reset in [true, false, true, false] {
        let lost = connect(&mut world);
        let begun = b"PUT /kv/v HTTP/1.1\r\nHost: t\r\nContent-Length: 100000\r\n\r\n";
        world.clients[lost].outgoing.extend(begun.iter().chain(&[b'x'; 50_000]));
        world.poll_client(lost);
        world.run_for(SECOND);
        if reset {
            world.clients[lost].socket().abort();
        }
        world.clients[lost].fin = true;
        world.poll_client(lost);
        world.run_for(SECOND);
        assert_eq!(present(&world), 1, "its place is free");
    }
    world.clients[stays].outgoing.extend(b"PUT /kv/w HTTP/1.1\r\nHost: t\r\nContent-Length: 120000\r\n\r\n");
    world.clients[stays].outgoing.extend([b'y'; 120_000]);
    world.poll_client(stays);
    assert_eq!(answer(&mut world, stays).status, 201, "the heap has room");
}

#[test]
fn a_connection_whose_binding_is_refused_goes_in_silence_and_the_slice_stays() {
    let _lock = turn_lock();
    let arena = Arena::new(64);
    let mut guest = Guest::new(&BootParams { slice_per_client: 1, ..params(1, 64) }, 5, &arena, 0);
    guest.lease(0, 1);
    let flow = |port| escape_abi::message::Flow { ip: [10, 1, 1, 1], port, service_port: HTTP };
    let mut now = SECOND;
    let mut turn = |guest: &mut Guest, frame: Option<Segment>| {
        now += MS;
        guest.set_time(now);
        frame.into_iter().for_each(|segment| guest.server.on_frame(&segment.frame()));
        guest.server.on_timers();
        guest.take()
    };
    let (_, messages) = turn(&mut guest, Some(Segment::new(flow(1), 5, 0, SYN)));
    let [GuestMessage::Bind { slot, incarnation, place: 0, .. }] = messages[..] else { panic!("{messages:?}") };
    let (frames, messages) = turn(&mut guest, Some(Segment::new(flow(2), 5, 0, SYN)));
    assert_eq!(messages, [GuestMessage::Bind { slot, incarnation, flow: flow(2), place: 1, serial: 1 }]);
    assert_eq!(frames.iter().filter_map(|f| flow_of(f)).collect::<Vec<_>>(), [flow(2)]);
    guest.server.on_message(HostMessage::ConnectionFree { slot, incarnation, flow: flow(2) });
    let (frames, messages) = turn(&mut guest, Some(Segment::new(flow(2), 6, 1, ACK)));
    assert_eq!((frames.len(), messages), (0, vec![GuestMessage::Changed { slot }]));
    assert_eq!((guest.control.meta(slot).connections, guest.server.sessions()), (1, 1));
    // Refused altogether: the slice ends.
    guest.server.on_message(HostMessage::ConnectionFree { slot, incarnation, flow: flow(1) });
    assert_eq!(turn(&mut guest, None).1, [GuestMessage::Close { slot, incarnation }]);
    assert_eq!(guest.server.sessions(), 0);
}

/// Seeds of a usual run.
const SEEDS: u64 = 150;
/// Steps of the world that a run may take: a livelock fails, it does not hang.
const STEPS_MAX: u64 = 600_000;

fn one(seed: u64) {
    let mut rng = Rng(seed);
    let mut world = World::shared(!seed, 64);
    let pick = |rng: &mut Rng, of: &[u64]| of[rng.below(of.len() as u64) as usize];
    world.loss_percent = pick(&mut rng, &[0, 0, 1, 5]);
    world.duplicate_percent = pick(&mut rng, &[0, 0, 3]);
    world.jitter = pick(&mut rng, &[0, 500, 5000]) as i64;
    world.commit_delay = pick(&mut rng, &[0, 0, 1000, 8000]) as i64;
    world.commit_every = pick(&mut rng, &[0, 0, 10_000]) as i64;
    let every = pick(&mut rng, &[50, 200, 2000]) * MS as u64;
    let faults_end = world.now + (every as i64 * 50).min(30 * SECOND);
    // Up to six at the same time on each of three machines, where four have a place; and more that come later.
    let mut to_come = 4 + rng.below(20);
    let (mut next_fault, mut next_client, mut steps) = (world.now + rng.below(every) as i64, world.now, 0);
    while to_come > 0 || !world.clients.iter().all(|c| c.app.done()) {
        steps += 1;
        assert!(steps < STEPS_MAX, "seed {seed}: stuck: {:?}", world.guest.server.counters());
        if to_come > 0 && world.now >= next_client {
            to_come -= 1;
            next_client = world.now + rng.below(2 * SECOND as u64) as i64 * i64::from(rng.chance(50));
            let options = Options { home: Some(rng.below(3) as u32), timestamps: rng.chance(60), ..Options::default() };
            let name = format!("c{}-", world.clients.len());
            if rng.chance(20) {
                world.connect_with(STREAM, options, Box::new(Stream::new(rng.below(30_000))));
            } else {
                let app = Checked::sharing(rng.next(), 1 + rng.below(15) as u32, &name);
                world.connect_with(HTTP, options, Box::new(app));
            }
        }
        if world.now >= next_fault && world.now < faults_end {
            world.step(Some(Survives::ALL[rng.below(4) as usize]));
            for _ in 0..rng.below(2) {
                world.take_over(Some(Survives::ALL[rng.below(4) as usize]));
            }
            world.failover();
            next_fault = world.now + rng.below(every) as i64;
        }
        if !world.step(None) {
            assert!(to_come > 0, "seed {seed}: nothing more will happen");
            world.now = next_client.max(world.now);
        }
    }
    assert!(world.clients.iter().all(|c| c.resets == 0));
    println!("seed {seed}: {steps} steps, {} failovers, {} bytes compared", world.failovers, world.oracle.compared);
}

#[test]
fn random_connections_of_a_few_clients_and_deaths() {
    let first = seed(1);
    let seeds = std::env::var("SESSION_SEEDS").map_or(SEEDS, |n| n.parse().unwrap());
    for seed in first..first + seeds {
        println!(
            "seed {seed}: SESSION_SEED={seed} SESSION_SEEDS=1 cargo test -p escape-session --release --test sharing random_"
        );
        one(seed);
    }
}
