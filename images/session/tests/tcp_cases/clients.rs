//! What clients do: T18, T28, T31, T32, T33.

use crate::kills::{COUNT, On, assert_counts, at_every_turn, replies, run_to_the_end, twice_at_every_turn};
use crate::support::client::{Manual, Options};
use crate::support::http::Checked;
use crate::support::raw::Raw;
use crate::support::world::Survives;
use crate::support::{HTTP, MS, SECOND, STREAM, World};
use escape_session::pattern;
use smoltcp::socket::tcp::State;

/// Nothing answers for a time, then the next owner does.
fn outage(world: &mut World, us: i64, survives: Survives) {
    world.turn(vec![], Some(survives));
    (world.cut_up, world.cut_down) = (true, true);
    let end = world.now + us;
    world.run_for(us);
    world.now = world.now.max(end);
    world.turn(vec![], Some(Survives::Everything));
    (world.cut_up, world.cut_down) = (false, false);
    world.failover();
}

/// Clients with limits: an outage below them is no end, idle or in a request.
#[test]
fn t18_keep_alive_and_user_timeout_of_the_client() {
    for survives in Survives::ALL {
        for idle in [true, false] {
            let _on = On((survives, idle));
            let mut world = World::new(18, 64);
            // Three keep-alives without an answer; 2 s without an acknowledgement.
            let options = match idle {
                true => Options { keep_alive: Some(1_000_000), timeout: Some(3_500_000), ..Options::default() },
                false => Options { timeout: Some(2_000_000), ..Options::default() },
            };
            let n = world.connect_with(HTTP, options, Box::new(Manual));
            // smoltcp's limit counts in idle times too, so these are short where there are no keep-alives.
            world.run_for(SECOND);
            for round in 1..4u64 {
                if !idle {
                    world.clients[n].outgoing.extend(COUNT);
                    world.poll_client(n);
                }
                outage(&mut world, 900 * MS, survives);
                world.run_for(if idle { 6 * SECOND } else { SECOND });
                assert_eq!(world.clients[n].state(), State::Established);
                if idle {
                    world.clients[n].outgoing.extend(COUNT);
                    world.poll_client(n);
                    world.run_for(50 * MS);
                }
                let got = replies(&mut world, n);
                assert_eq!(got.len(), 1, "round {round}");
                assert_counts(&got, round);
            }
        }
    }
}

/// An outage beyond the limit ends such a client: the promise is bounded by what the client allows.
#[test]
fn t18_an_outage_beyond_the_limit_is_the_end_of_that_client() {
    let mut world = World::new(18, 64);
    let options = Options { timeout: Some(2_000_000), ..Options::default() };
    let n = world.connect_with(HTTP, options, Box::new(Manual));
    world.run_for(SECOND);
    world.clients[n].outgoing.extend(COUNT);
    world.poll_client(n);
    (world.cut_up, world.cut_down) = (true, true);
    world.run_for(3 * SECOND);
    assert_eq!(world.clients[n].state(), State::Closed);
}

/// The second owner dies before the first has been answered, whatever of the two survives; then a third one does.
#[test]
fn t28_second_failover_before_the_clients_first_ack() {
    let deaths = twice_at_every_turn(
        || World::new(28, 64),
        |world| {
            world.connect_with(HTTP, Options::default(), Box::new(Checked::new(28, 3)));
            run_to_the_end(world, 200 * SECOND);
        },
    );
    assert!(deaths > 200, "{deaths}");
}

/// Owners that die faster than any timer runs, twenty in a row, with a reply that none of them gets through; then one lives.
#[test]
fn t28_failovers_faster_than_any_timer() {
    for survives in [Survives::Nothing, Survives::Commit] {
        let mut world = World::new(280, 64);
        let n = world.connect_with(HTTP, Options::default(), Box::new(Manual));
        world.run_for(100 * MS);
        world.clients[n].outgoing.extend(COUNT);
        world.poll_client(n);
        world.step(Some(Survives::Commit));
        for _ in 0..20 {
            world.take_over(Some(survives));
        }
        let start = world.now;
        world.failover();
        world.run_until(SECOND, |w| !w.clients[n].incoming.is_empty());
        assert!(world.now - start < 10 * MS);
        assert_counts(&replies(&mut world, n), 1);
    }
}

/// Three replies are out, one and a half are acknowledged: the next owner goes on in the middle of the second.
#[test]
fn t31_pipelined_requests_partly_acknowledged() {
    for survives in Survives::ALL {
        let _on = On(survives);
        let mut world = World::new(31, 64);
        let flow = Raw::flow(&mut world, 1, HTTP);
        let mut peer = Raw::connect(&mut world, flow, 1, &[]);
        peer.send(&mut world, &COUNT.repeat(3));
        let start = peer.expected;
        let (_, sent) = peer.take(&mut world);
        let half = start.wrapping_add(sent.len() as u32 / 2);
        peer.expected = half;
        // The acknowledgement comes with half of the next request.
        let (a, b) = COUNT.split_at(20);
        peer.send(&mut world, a);
        peer.take(&mut world);
        peer.expected = half;
        world.turn(vec![], Some(survives));
        world.failover();
        let (seen, again) = peer.take(&mut world);
        let data: Vec<_> = seen.iter().filter(|s| !s.payload.is_empty()).collect();
        assert_eq!((data.len(), data[0].seq), (1, half), "{seen:?}");
        assert_eq!(again, sent[sent.len() / 2..]);
        peer.send(&mut world, b);
        assert!(peer.take(&mut world).1.ends_with(b"\r\n\r\n4\n"));
    }
}

/// On the stream port the server sends without being asked, to a client that only acknowledges.
#[test]
fn t32_server_push() {
    at_every_turn(
        || World::new(32, 64),
        |world| {
            let flow = Raw::flow(world, 1, STREAM);
            let mut peer = Raw::connect(world, flow, 1, &[2, 4, 5, 180]);
            let mut received = vec![];
            for _ in 0..1000 {
                let (seen, bytes) = peer.take(world);
                received.extend(bytes);
                if received.len() >= 150_000 {
                    break;
                }
                if seen.is_empty() {
                    world.run_for(100 * MS);
                }
                peer.ack(world);
            }
            assert!(received.len() >= 150_000, "{}", received.len());
            assert_eq!(pattern::count_wrong(&received, 0), 0);
        },
    );
}

/// What an idle connection costs its standby: below 3 KB, also after requests of some size; and its plug sends one small frame at most.
/// (100,000 of them, and the time to move them, are a matter for `escape bench memory`.)
#[test]
fn t33_an_idle_connection_is_small() {
    let mut world = World::new(33, 64);
    let n = world.connect_with(HTTP, Options::default(), Box::new(Manual));
    for request in [&b"GET /bytes?n=100000 HTTP/1.1\r\nHost: x\r\n\r\n"[..], COUNT] {
        world.clients[n].outgoing.extend(request);
        world.poll_client(n);
        world.run_for(SECOND);
    }
    world.clients[n].outgoing.extend(b"PUT /bytes HTTP/1.1\r\nHost: x\r\nContent-Length: 30000\r\n\r\n");
    world.clients[n].outgoing.extend([0; 30_000]);
    world.poll_client(n);
    world.run_for(SECOND);
    assert_eq!(replies(&mut world, n).len(), 3);
    let image = world.images.values().next().unwrap();
    assert!(image.bytes() < 3000, "{}", image.bytes());
    let before = world.oracle.frames;
    world.failover();
    world.run_for(10 * SECOND);
    assert!(world.oracle.frames - before <= 2, "{}", world.oracle.frames - before);
}
