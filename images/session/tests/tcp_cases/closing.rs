//! The end of a connection: T13, T14.

use crate::kills::{
    COUNT, COUNT_AND_CLOSE, On, assert_counts, at_every_turn, replies, run_to_the_end, twice_at_every_turn,
};
use crate::support::client::{Manual, Options};
use crate::support::http::{Checked, Stream};
use crate::support::raw::Raw;
use crate::support::segment::{ACK, FIN, RST};
use crate::support::world::Survives;
use crate::support::{HTTP, MS, SECOND, STREAM, World};
use escape_session::pattern;

fn world() -> World {
    World::new(13, 64)
}

fn checked(close_by_header: bool) -> Box<Checked> {
    let mut app = Checked::new(13, 2);
    app.close_by_header = close_by_header;
    Box::new(app)
}

#[test]
fn t13_client_closes_first() {
    at_every_turn(world, |world| {
        world.connect_with(HTTP, Options::default(), checked(false));
        run_to_the_end(world, 200 * SECOND);
    });
}

#[test]
fn t13_server_closes_first() {
    at_every_turn(world, |world| {
        world.connect_with(HTTP, Options::default(), checked(true));
        run_to_the_end(world, 200 * SECOND);
    });
}

/// Two deaths in a row, at each turn, for both.
#[test]
fn t13_either_closes_first_and_two_owners_die() {
    for close_by_header in [false, true] {
        twice_at_every_turn(world, |world| {
            world.connect_with(HTTP, Options::default(), checked(close_by_header));
            run_to_the_end(world, 200 * SECOND);
        });
    }
}

/// The client's FIN comes right behind its request; the reply is long, and goes out in CLOSE-WAIT.
#[test]
fn t13_half_closed_by_the_client() {
    at_every_turn(world, |world| {
        let n = world.connect_with(HTTP, Options::default(), Box::new(Manual));
        world.clients[n].outgoing.extend(b"GET /bytes?n=100000 HTTP/1.1\r\nHost: x\r\n\r\n");
        world.clients[n].fin = true;
        world.run_until(200 * SECOND, |w| w.clients[n].ended() && w.images.is_empty());
        let got = replies(world, n);
        assert_eq!((got.len(), got[0].body.len(), pattern::count_wrong(&got[0].body, 0)), (1, 100_000, 0));
        assert_eq!(world.clients[n].incoming, b"");
    });
}

/// The server closes; its client goes on to send into the half that is open, and closes later.
#[test]
fn t13_half_closed_by_the_server() {
    at_every_turn(world, |world| {
        let n = world.connect_with(HTTP, Options::default(), Box::new(Manual));
        world.clients[n].outgoing.extend(COUNT_AND_CLOSE);
        world.run_until(200 * SECOND, |w| w.clients[n].ended());
        assert_counts(&replies(world, n), 1);
        world.clients[n].outgoing.extend(COUNT.repeat(3));
        world.poll_client(n);
        world.run_for(100 * MS);
        world.clients[n].fin = true;
        world.poll_client(n);
        world.run_until(200 * SECOND, |w| w.images.is_empty());
        assert_eq!(world.clients[n].incoming, b"", "what came behind the last request is thrown away");
    });
}

/// Both FINs are on the wire at once.
#[test]
fn t13_simultaneous_close() {
    at_every_turn(world, |world| {
        let n = world.connect_with(HTTP, Options::default(), Box::new(Manual));
        world.run_for(20 * MS);
        world.clients[n].outgoing.extend(COUNT_AND_CLOSE);
        world.poll_client(n);
        world.run_for(MS + MS / 2);
        world.clients[n].fin = true;
        world.poll_client(n);
        world.run_until(200 * SECOND, |w| w.clients[n].ended() && w.images.is_empty());
        assert_counts(&replies(world, n), 1);
    });
}

/// On the stream port both send until the client closes: FIN with data in flight both ways, and a trailer that must agree.
#[test]
fn t13_a_stream_is_closed_with_data_in_flight() {
    at_every_turn(world, |world| {
        world.connect_with(STREAM, Options { mtu: 9000, ..Options::default() }, Box::new(Stream::new(9000)));
        run_to_the_end(world, 200 * SECOND);
    });
}

/// Each segment of the end by hand: FIN, ACK of FIN, FIN of the server, last ACK, each repeated at the next owner.
#[test]
fn t13_every_segment_of_the_end_comes_twice() {
    for survives in Survives::ALL {
        let mut world = world();
        let flow = Raw::flow(&mut world, 1, HTTP);
        let mut peer = Raw::connect(&mut world, flow, 5000, &[]);
        peer.send(&mut world, COUNT);
        peer.take(&mut world);
        peer.ack(&mut world);
        let fin = peer.at(0, ACK | FIN, &[]);
        peer.close(&mut world);
        let die = |world: &mut World| {
            world.turn(vec![], Some(survives));
            world.failover();
        };
        die(&mut world);
        world.raw_send(fin.clone());
        let (seen, _) = peer.take(&mut world);
        let fins: Vec<_> = seen.iter().filter(|s| s.flags & FIN != 0).collect();
        assert!(!fins.is_empty() && fins.iter().all(|f| f.end() == peer.expected && f.ack == peer.next), "{seen:?}");
        die(&mut world);
        world.raw_send(fin);
        peer.ack(&mut world);
        assert_eq!((world.images.len(), world.guest.server.sessions()), (0, 0), "{survives:?}");
        die(&mut world);
        peer.ack(&mut world);
        assert_eq!(world.guest.server.sessions(), 0, "closed slices stay closed");
    }
}

/// The client has closed, its window is closed too, and opens again: in LAST-ACK smoltcp does not look at windows, so the FIN waits.
#[test]
fn t13_a_window_that_opens_after_the_client_has_closed_is_heard() {
    for survives in Survives::ALL {
        let mut world = world();
        let flow = Raw::flow(&mut world, 1, HTTP);
        let mut peer = Raw::connect(&mut world, flow, 5000, &[]);
        peer.window = 700;
        peer.send(&mut world, b"GET /bytes?n=3000 HTTP/1.1\r\nHost: x\r\n\r\n");
        peer.close(&mut world);
        let (_, mut got) = peer.take(&mut world);
        assert!(!got.is_empty() && got.len() <= 700, "{}", got.len());
        peer.window = 0;
        peer.ack(&mut world);
        world.turn(vec![], Some(survives));
        world.failover();
        // The new owner asks with a byte that there is no room for.
        world.raw_take(flow);
        peer.window = 0x7fff;
        // Says nothing new but the window.
        peer.ack(&mut world);
        world.run_for(20 * MS);
        let (seen, rest) = peer.take(&mut world);
        got.extend(rest);
        assert!(got.len() > 3000 && got.ends_with(&[pattern_byte(2999)]), "{survives:?}: {} bytes", got.len());
        peer.ack(&mut world);
        let (last, _) = peer.take(&mut world);
        assert!(seen.iter().chain(&last).any(|s| s.flags & FIN != 0), "{seen:?} {last:?}");
        peer.ack(&mut world);
        assert_eq!((world.images.len(), world.guest.server.sessions()), (0, 0), "{survives:?}");
    }
}

fn pattern_byte(at: u64) -> u8 {
    let mut byte = [0];
    pattern::fill(&mut byte, at);
    byte[0]
}

/// Bytes whose acknowledgement was lost come again, and the FIN with them: the bytes are known, the FIN is not.
#[test]
fn t13_a_fin_behind_bytes_that_are_known_is_taken() {
    for survives in Survives::ALL {
        let mut world = world();
        let flow = Raw::flow(&mut world, 1, HTTP);
        let mut peer = Raw::connect(&mut world, flow, 5000, &[]);
        peer.send(&mut world, COUNT);
        let (_, got) = peer.take(&mut world);
        assert!(got.ends_with(b"\r\n\r\n1\n"));
        world.turn(vec![], Some(survives));
        world.failover();
        peer.next = peer.next.wrapping_sub(COUNT.len() as u32);
        let again = peer.at(0, ACK | FIN, COUNT);
        peer.next = peer.next.wrapping_add(COUNT.len() as u32 + 1);
        world.raw_send(again);
        world.run_for(20 * MS);
        let (seen, more) = peer.take(&mut world);
        assert!(more.is_empty(), "the request is not served again");
        assert!(seen.iter().any(|s| s.flags & FIN != 0 && s.ack == peer.next), "{survives:?}: {seen:?}");
        peer.ack(&mut world);
        assert_eq!((world.images.len(), world.guest.server.sessions()), (0, 0), "{survives:?}");
    }
}

/// The peer resets while a reply waits for its commit: the reply leaves or not as the commit says, the slice ends once, and no owner
/// brings it back. The guest itself never sends an RST (the world checks every frame), so there is none to be held.
#[test]
fn t14_reset_while_output_is_held() {
    for survives in Survives::ALL {
        let _on = On(survives);
        let mut world = world();
        let flow = Raw::flow(&mut world, 1, HTTP);
        let mut peer = Raw::connect(&mut world, flow, 5000, &[]);
        world.commit_delay = 20 * MS;
        peer.send(&mut world, COUNT);
        assert!(world.raw_take(flow).is_empty(), "held");
        let reset = peer.at(0, RST, &[]);
        world.turn(vec![reset.frame()], Some(survives));
        world.mirror_loss_percent = 0;
        world.failover();
        world.run_for(SECOND);
        let (seen, bytes) = peer.take(&mut world);
        // The new owner has the segments that no commit knew, the reset among them.
        assert_eq!((world.images.len(), world.guest.server.sessions()), (0, 0), "{survives:?}");
        assert!(seen.iter().all(|s| s.flags & RST == 0));
        assert!(bytes.is_empty() || bytes.ends_with(b"1\n"));
        world.turn(vec![], Some(Survives::Everything));
        world.failover();
        peer.ack(&mut world);
        assert!(world.raw_take(flow).is_empty() && world.guest.server.sessions() == 0);
    }
}

/// A reset that is not exactly at the next number ends nothing, at any owner.
#[test]
fn t14_a_reset_elsewhere_in_the_window_is_only_answered() {
    let mut world = world();
    let flow = Raw::flow(&mut world, 1, HTTP);
    let mut peer = Raw::connect(&mut world, flow, 5000, &[]);
    for n in 1..4u64 {
        world.raw_send(peer.at(100, RST, &[]));
        world.turn(vec![], Some(Survives::Everything));
        world.failover();
        world.raw_send(peer.at(200, RST | ACK, &[]));
        peer.send(&mut world, COUNT);
        let (_, bytes) = peer.take(&mut world);
        assert!(bytes.ends_with(format!("\r\n\r\n{n}\n").as_bytes()), "{:?}", String::from_utf8_lossy(&bytes));
        world.run_for(2 * SECOND);
    }
}
