//! `GET /events`: ticks that go on with the next number wherever the slice goes.

#![allow(clippy::unwrap_used)]

mod support;

use support::client::Manual;
use support::{HTTP, SECOND, World, seed};

/// Microseconds of a millisecond.
const MS: i64 = 1_000;

fn ask(world: &mut World, request: &str) -> usize {
    let n = world.connect(HTTP, Box::new(Manual));
    world.clients[n].outgoing.extend(request.as_bytes());
    n
}

fn events(world: &mut World, query: &str) -> usize {
    ask(world, &format!("GET /events{query} HTTP/1.1\r\nHost: x\r\n\r\n"))
}

/// Takes the reply's head off what came.
fn take_head(bytes: &mut Vec<u8>) -> String {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a whole head") + 4;
    String::from_utf8(bytes.drain(..end).collect()).unwrap()
}

/// Numbers of the ticks in these chunks, and whether the last chunk came; anything that is not a whole chunk fails.
fn ticks(mut bytes: &[u8]) -> (Vec<u64>, bool) {
    let mut numbers = Vec::new();
    while !bytes.is_empty() {
        let text = std::str::from_utf8(bytes).unwrap();
        let (size, rest) = text.split_once("\r\n").expect("a size line");
        let size = usize::from_str_radix(size, 16).unwrap();
        let (data, rest) = rest.split_at(size);
        bytes = rest.strip_prefix("\r\n").expect("the end of a chunk").as_bytes();
        if size == 0 {
            assert!(bytes.is_empty(), "nothing behind the last chunk");
            return (numbers, true);
        }
        let number = data.strip_prefix("{\"tick\":").and_then(|data| data.split_once(",\"node\":")).expect("a tick").0;
        numbers.push(number.parse().unwrap());
        assert!(data.ends_with("}\n"), "{data:?}");
    }
    (numbers, false)
}

#[test]
fn so_many_as_were_counted_and_then_the_next_request() {
    let mut world = World::new(seed(1), 64);
    let n = events(&mut world, "?every_ms=100&count=5");
    world.clients[n].outgoing.extend(b"GET /session HTTP/1.1\r\nHost: x\r\n\r\n");
    world.run_for(350 * MS);
    let mut bytes = world.clients[n].incoming.clone();
    let head = take_head(&mut bytes);
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("\r\nTransfer-Encoding: chunked\r\n"), "{head}");
    assert!(!head.contains("Content-Length") && head.contains("\r\nX-Requests: 1\r\n"), "{head}");
    assert_eq!(ticks(&bytes), (vec![1, 2, 3, 4], false), "the first at once, then one every 100 ms");
    world.run_for(SECOND);
    let mut bytes = world.clients[n].incoming.clone();
    take_head(&mut bytes);
    let next = bytes.windows(8).position(|eight| eight == b"HTTP/1.1").expect("the next request's reply");
    assert_eq!(ticks(&bytes[..next]), (vec![1, 2, 3, 4, 5], true));
    assert!(!world.clients[n].ended());
}

#[test]
fn the_next_owner_goes_on_with_the_next_number() {
    for s in seed(10)..seed(10) + 5 {
        let mut world = World::new(s, 64);
        let n = events(&mut world, "?every_ms=20");
        let from = world.now;
        for _ in 0..20 {
            let pause = world.rng.below(100) as i64;
            world.run_for(10 * MS + pause * MS);
            world.failover();
        }
        world.run_for(200 * MS);
        let most = (world.now - from) as u64 / 20_000 + 1;
        let mut bytes = std::mem::take(&mut world.clients[n].incoming);
        take_head(&mut bytes);
        let (numbers, over) = ticks(&bytes);
        let wanted: Vec<u64> = (1..=numbers.len() as u64).collect();
        assert_eq!((numbers, over), (wanted.clone(), false), "seed {s}: none lost, none doubled");
        let count = wanted.len() as u64;
        assert!(count <= most && count >= most / 2, "seed {s}: {count} ticks where {most} fit");
        assert_eq!(world.clients[n].resets, 0);
    }
}

#[test]
fn they_end_with_their_client() {
    let mut world = World::new(seed(20), 64);
    let n = events(&mut world, "?every_ms=10");
    world.run_for(50 * MS);
    assert_eq!(world.guest.server.sessions(), 1);
    world.clients[n].socket().abort();
    world.poll_client(n);
    world.run_for(SECOND);
    assert_eq!(world.guest.server.sessions(), 0);
}

#[test]
fn what_is_refused() {
    for (request, status) in [
        ("GET /events HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 505),
        ("GET /events?every_ms=9 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("GET /events?count=0 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 405),
    ] {
        let mut world = World::new(seed(30), 64);
        let n = ask(&mut world, request);
        world.run_for(SECOND);
        let head = take_head(&mut world.clients[n].incoming);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {head}");
    }
    let mut world = World::new(seed(31), 64);
    let n = ask(&mut world, "HEAD /events HTTP/1.1\r\nHost: x\r\n\r\n");
    world.run_for(3 * SECOND);
    take_head(&mut world.clients[n].incoming);
    assert!(world.clients[n].incoming.is_empty(), "a head alone");
}
