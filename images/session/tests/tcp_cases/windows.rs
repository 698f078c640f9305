//! Windows: T8, T11, T36.

use crate::kills::{On, replies};
use crate::support::client::{Manual, Options};
use crate::support::world::Survives;
use crate::support::{HTTP, MS, SECOND, World};
use escape_session::pattern;

/// A client that reads nothing asks for more than fits, and then sends requests until nothing more fits either: the server's transmit
/// ring is full, its receive ring is full of bytes that nobody has read, both windows are closed.
fn jammed(seed: u64, options: Options) -> (World, usize) {
    let mut world = World::new(seed, 64);
    let n = world.connect_with(HTTP, options, Box::new(Manual));
    world.clients[n].appetite = 0;
    world.clients[n].outgoing.extend(b"GET /bytes?n=300000 HTTP/1.1\r\nHost: x\r\n\r\n");
    for key in 0..30 {
        let head = format!("PUT /kv/{key} HTTP/1.1\r\nHost: x\r\nContent-Length: 3000\r\n\r\n");
        world.clients[n].outgoing.extend(head.as_bytes());
        world.clients[n].outgoing.extend((0..3000).map(|i| pattern::pattern(key + i)));
    }
    world.poll_client(n);
    world.run_for(5 * SECOND);
    let slot = world.bound.values().next().unwrap().0;
    let live: u32 = world.images[&slot].meta.live.iter().map(|r| r.len).sum();
    assert!(live > 95_000, "both rings are full: {live} bytes of state");
    assert!(world.clients[n].outgoing.len() > 10_000, "its window is closed: {}", world.clients[n].outgoing.len());
    (world, n)
}

fn all_arrives(world: &mut World, n: usize) {
    world.clients[n].appetite = usize::MAX;
    world.poll_client(n);
    world.run_until(60 * SECOND, |w| w.clients[n].outgoing.is_empty() && w.clients[n].socket().send_queue() == 0);
    world.run_for(SECOND);
    let got = replies(world, n);
    assert_eq!((got.len(), got[0].body.len(), pattern::count_wrong(&got[0].body, 0)), (31, 300_000, 0));
    for (reply, requests) in got[1..].iter().zip(2..) {
        assert_eq!((reply.status, reply.requests), (201, requests));
    }
}

/// With 32 KiB unread in the receive ring, which are acknowledged: the client will never send them again.
#[test]
fn t08_kill_with_a_full_receive_ring() {
    for (seed, survives) in (80..).zip(Survives::ALL) {
        let _on = On(survives);
        let (mut world, n) = jammed(seed, Options::default());
        world.step(Some(survives));
        world.failover();
        all_arrives(&mut world, n);
    }
}

#[test]
fn t11_zero_windows_on_both_sides_at_the_kill() {
    for scale in [None, Some(0), Some(7)] {
        for timestamps in [false, true] {
            let _on = On((scale, timestamps));
            let (mut world, n) = jammed(11, Options { scale, timestamps, ..Options::default() });
            // Probes of both sides come and go; no owner lives long.
            for survives in Survives::ALL.repeat(3) {
                world.run_for(700 * MS);
                world.step(Some(survives));
                world.failover();
            }
            all_arrives(&mut world, n);
        }
    }
}

/// The update that opens the client's window is lost with the owner: the server's probes find out.
#[test]
fn t11_a_lost_window_update_is_made_good() {
    for survives in Survives::ALL {
        let _on = On(survives);
        let (mut world, n) = jammed(12, Options::default());
        world.cut_up = true;
        world.clients[n].appetite = usize::MAX;
        world.poll_client(n);
        world.step(Some(survives));
        world.mirror_loss_percent = 100;
        world.failover();
        world.run_for(300 * MS);
        world.cut_up = false;
        all_arrives(&mut world, n);
    }
}

/// A reader of a few hundred bytes every few ms: the window closes again and again, also while output is held, also when its owner dies.
#[test]
fn t36_a_slow_reader() {
    for (seed, delay) in [(1, 0), (2, 3 * MS), (3, 40 * MS)] {
        let _on = On(delay);
        let mut world = World::new(360 + seed, 64);
        world.commit_delay = delay;
        let options = Options { receive: 4000, ..Options::default() };
        let n = world.connect_with(HTTP, options, Box::new(Manual));
        world.clients[n].appetite = 0;
        world.clients[n].outgoing.extend(b"GET /bytes?n=150000 HTTP/1.1\r\nHost: x\r\n\r\n");
        world.poll_client(n);
        for round in 0.. {
            world.run_for(5 * MS);
            world.clients[n].appetite = 300;
            world.poll_client(n);
            if world.clients[n].incoming.len() > 150_000 {
                break;
            }
            assert!(round < 20_000, "{} bytes", world.clients[n].incoming.len());
            if round % 50 == 49 {
                world.step(Some(Survives::ALL[round / 50 % 4]));
                world.failover();
            }
        }
        world.clients[n].appetite = usize::MAX;
        world.poll_client(n);
        world.run_for(SECOND);
        let got = replies(&mut world, n);
        assert_eq!((got[0].body.len(), pattern::count_wrong(&got[0].body, 0)), (150_000, 0));
        assert!(world.failovers >= 8, "{}", world.failovers);
    }
}
