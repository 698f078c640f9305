//! HTTP as a client on the wire sees it.

#![allow(clippy::unwrap_used)]

mod support;

use escape_session::{chain, pattern};
use support::client::Manual;
use support::http::{Reply, hex};
use support::{HTTP, SECOND, World};

/// Sends bytes on a fresh connection and returns what comes back within a second, and whether the server closed.
fn exchange(request: &[u8]) -> (Vec<u8>, bool) {
    let mut world = World::new(1, 64);
    let n = world.connect(HTTP, Box::new(Manual));
    world.clients[n].outgoing.extend(request);
    world.run_for(3 * SECOND);
    (std::mem::take(&mut world.clients[n].incoming), world.clients[n].ended())
}

/// One reply per request that is pipelined in `request`.
fn replies(request: &[u8], heads: &[bool]) -> (Vec<Reply>, bool) {
    let (mut bytes, closed) = exchange(request);
    let replies = heads.iter().map(|head| Reply::take(&mut bytes, *head).expect("a reply")).collect();
    assert!(bytes.is_empty(), "{:?}", String::from_utf8_lossy(&bytes));
    (replies, closed)
}

fn one(request: &str) -> (Reply, bool) {
    let (mut all, closed) = replies(request.as_bytes(), &[request.starts_with("HEAD")]);
    (all.remove(0), closed)
}

#[test]
fn statuses() {
    let h = "Host: x\r\n";
    let big = "a".repeat(5000);
    let key = "k".repeat(256);
    for (request, status, closed) in [
        (format!("GET /session HTTP/1.1\r\n{h}\r\n"), 200, false),
        (format!("GET /session HTTP/1.1\r\n{h}Connection: close\r\n\r\n"), 200, true),
        ("GET /session HTTP/1.0\r\n\r\n".into(), 200, true),
        (format!("GET http://x/session HTTP/1.1\r\n{h}\r\n"), 200, false),
        (format!("GET /nothing HTTP/1.1\r\n{h}\r\n"), 404, false),
        (format!("POST /nothing HTTP/1.1\r\n{h}Content-Length: 3\r\n\r\nabc"), 404, false),
        (format!("GET /kv/none HTTP/1.1\r\n{h}\r\n"), 404, false),
        (format!("DELETE /kv/none HTTP/1.1\r\n{h}\r\n"), 404, false),
        (format!("GET /kv/{key} HTTP/1.1\r\n{h}\r\n"), 400, false),
        (format!("POST /kv/a HTTP/1.1\r\n{h}\r\n"), 405, false),
        (format!("DELETE /counter HTTP/1.1\r\n{h}\r\n"), 405, false),
        (format!("PUT /kv/a HTTP/1.1\r\n{h}\r\n"), 411, true),
        (format!("PUT /bytes HTTP/1.1\r\n{h}\r\n"), 411, true),
        (format!("PUT /kv/a HTTP/1.1\r\n{h}Content-Length: 131073\r\n\r\n"), 413, true),
        (format!("GET /{big} HTTP/1.1\r\n{h}\r\n"), 414, true),
        (format!("GET / HTTP/1.1\r\n{h}A: {big}\r\n\r\n"), 431, true),
        (format!("GET / HTTP/1.1\r\n{h}{}\r\n", "A: b\r\n".repeat(70)), 431, true),
        (format!("BREW /counter HTTP/1.1\r\n{h}\r\n"), 501, false),
        (format!("PUT /bytes HTTP/1.1\r\n{h}Transfer-Encoding: gzip\r\n\r\n"), 501, true),
        (format!("GET / HTTP/3.0\r\n{h}\r\n"), 505, true),
        (format!("GET / HTTP/1.1\r\n{h}Expect: tea\r\n\r\n"), 417, true),
        ("nonsense\r\n\r\n".into(), 400, true),
        ("GET / HTTP/1.1\r\n\r\n".into(), 400, true),
        (format!("PUT /bytes HTTP/1.1\r\n{h}Transfer-Encoding: chunked\r\n\r\nZZ\r\n"), 400, true),
        (format!("GET /bytes?n=x HTTP/1.1\r\n{h}\r\n"), 400, false),
        (format!("POST /dirty?n=65537 HTTP/1.1\r\n{h}\r\n"), 400, false),
        (format!("HEAD /bytes?n=1000 HTTP/1.1\r\n{h}\r\n"), 200, false),
    ] {
        let (reply, was_closed) = one(&request);
        let short = &request[..request.len().min(80)];
        assert_eq!((reply.status, was_closed), (status, closed), "{short:?}: {}", reply.head);
        assert_eq!(reply.field("connection") == Some("close"), closed, "{short:?}");
        if status >= 400 {
            assert_eq!(reply.field("content-type"), Some("application/json"), "{short:?}");
            let body = String::from_utf8(reply.body.clone()).unwrap();
            assert!(body.starts_with(&format!("{{\"status\":{status},\"error\":\"")), "{body}");
        }
        assert_eq!(reply.field("allow").is_some(), status == 405, "{short:?}");
    }
}

#[test]
fn values_counter_and_chain() {
    let h = "Host: x\r\n";
    let value = "v".repeat(3000);
    let requests: Vec<(&str, String, String, u16)> = vec![
        ("PUT", "/kv/a".into(), value.clone(), 201),
        ("GET", "/kv/a".into(), String::new(), 200),
        ("PUT", "/kv/a".into(), "new".into(), 204),
        ("GET", "/kv/a".into(), String::new(), 200),
        ("HEAD", "/kv/a".into(), String::new(), 200),
        ("PUT", "/kv/empty".into(), String::new(), 201),
        ("GET", "/kv/empty".into(), String::new(), 200),
        ("POST", "/counter".into(), "ignored".into(), 200),
        ("POST", "/counter".into(), String::new(), 200),
        ("DELETE", "/kv/a".into(), String::new(), 204),
        ("GET", "/kv/a".into(), String::new(), 404),
        ("GET", "/bytes?n=100".into(), String::new(), 200),
        ("GET", "/session".into(), String::new(), 200),
    ];
    let mut all = Vec::new();
    for (method, target, body, _) in &requests {
        let length = if *method == "PUT" || !body.is_empty() {
            format!("Content-Length: {}\r\n", body.len())
        } else {
            String::new()
        };
        all.extend(format!("{method} {target} HTTP/1.1\r\n{h}{length}\r\n{body}").bytes());
    }
    let heads: Vec<bool> = requests.iter().map(|r| r.0 == "HEAD").collect();
    let (replies, _) = replies(&all, &heads);
    let (mut link, mut n) = (chain::START, 0);
    for ((method, target, body, status), reply) in requests.iter().zip(&replies) {
        n += 1;
        link = chain::next(&link, method.as_bytes(), target.as_bytes(), &chain::hash(body.as_bytes()));
        assert_eq!((reply.status, reply.requests, &reply.chain), (*status, n, &hex(&link)), "{method} {target}");
    }
    assert_eq!(replies[1].body, value.as_bytes());
    assert_eq!(replies[3].body, b"new");
    assert_eq!((replies[4].field("content-length"), replies[4].body.len()), (Some("3"), 0));
    assert!(replies[6].body.is_empty());
    assert_eq!((&replies[7].body[..], &replies[8].body[..]), (&b"1\n"[..], &b"2\n"[..]));
    assert_eq!(pattern::count_wrong(&replies[11].body, 0), 0);
    let session = String::from_utf8(replies[12].body.clone()).unwrap();
    assert!(
        session.contains("\"slice\":\"0:4294967297\"") && session.contains("\"node\":1,\"requests\":13,"),
        "{session}"
    );
}

#[test]
fn a_full_heap_is_507_and_the_session_goes_on() {
    let mut all = Vec::new();
    for n in 0..4 {
        all.extend(format!("PUT /kv/{n} HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n").bytes());
        all.extend(std::iter::repeat_n(b'0' + n, 60_000));
    }
    all.extend(b"POST /dirty?n=65536 HTTP/1.1\r\nHost: x\r\n\r\n");
    all.extend(b"DELETE /kv/0 HTTP/1.1\r\nHost: x\r\n\r\nDELETE /kv/1 HTTP/1.1\r\nHost: x\r\n\r\n");
    all.extend(b"POST /dirty?n=65536 HTTP/1.1\r\nHost: x\r\n\r\n");
    all.extend(b"PUT /kv/z HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..60 {
        all.extend(format!("800\r\n{}\r\n", "z".repeat(0x800)).bytes());
    }
    all.extend(b"0\r\n\r\nGET /session HTTP/1.1\r\nHost: x\r\n\r\n");
    let (replies, closed) = replies(&all, &[false; 10]);
    let statuses: Vec<u16> = replies.iter().map(|r| r.status).collect();
    assert_eq!((statuses, closed), (vec![201, 201, 507, 507, 507, 204, 204, 200, 507, 200], false));
}

#[test]
fn a_chunked_value_that_outgrows_the_heap_is_507() {
    let mut all = b"PUT /kv/z HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..66 {
        all.extend(format!("800\r\n{}\r\n", "z".repeat(0x800)).bytes());
    }
    all.extend(b"0\r\n\r\nGET /kv/z HTTP/1.1\r\nHost: x\r\n\r\n");
    let (replies, closed) = replies(&all, &[false; 2]);
    assert_eq!((replies[0].status, replies[1].status, closed), (507, 404, false));
}

#[test]
fn expect_continue_is_answered_before_the_body() {
    let mut world = World::new(2, 64);
    let n = world.connect(HTTP, Box::new(Manual));
    let head = b"PUT /kv/a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    world.clients[n].outgoing.extend(head);
    world.run_for(SECOND / 2);
    assert_eq!(world.clients[n].incoming, b"HTTP/1.1 100 Continue\r\n\r\n");
    world.clients[n].outgoing.extend(b"hello");
    world.poll_client(n);
    world.run_for(SECOND / 2);
    let reply = Reply::take(&mut world.clients[n].incoming, false).unwrap();
    assert_eq!(reply.status, 201);
}

#[test]
fn one_byte_at_a_time() {
    let mut world = World::new(3, 64);
    let n = world.connect(HTTP, Box::new(Manual));
    let request = b"PUT /kv/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nT: 1\r\n\r\nGET /kv/a HTTP/1.1\r\nHost: x\r\n\r\n";
    for byte in request {
        world.clients[n].outgoing.push_back(*byte);
        world.poll_client(n);
        world.run_for(3000);
    }
    let incoming = &mut world.clients[n].incoming;
    assert_eq!(Reply::take(incoming, false).unwrap().status, 201);
    assert_eq!(Reply::take(incoming, false).unwrap().body, b"abc");
}

#[test]
fn large_bodies_both_ways_while_the_reader_is_slow() {
    let mut world = World::new(4, 64);
    let n = world.connect(HTTP, Box::new(Manual));
    let mut body = vec![0; 1_000_000];
    pattern::fill(&mut body, 0);
    body[700_000] ^= 1;
    let head = format!("PUT /bytes HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    world.clients[n].outgoing.extend(head.bytes().chain(body.iter().copied()));
    world.clients[n].outgoing.extend(b"GET /bytes?n=3000000 HTTP/1.1\r\nHost: x\r\n\r\n");
    world.poll_client(n);
    world.run_for(60 * SECOND);
    let incoming = &mut world.clients[n].incoming;
    let put = Reply::take(incoming, false).unwrap();
    let want = format!("{{\"bytes\":1000000,\"wrong\":1,\"blake3\":\"{}\"}}\n", hex(&chain::hash(&body)));
    assert_eq!(String::from_utf8(put.body).unwrap(), want);
    let get = Reply::take(incoming, false).unwrap();
    assert_eq!((get.body.len(), pattern::count_wrong(&get.body, 0)), (3_000_000, 0));
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_body_leaves_nothing() {
    let mut world = World::new(5, 64);
    let n = world.connect(HTTP, Box::new(Manual));
    world.clients[n].outgoing.extend(b"PUT /kv/a HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\nhalf");
    world.clients[n].fin = true;
    world.poll_client(n);
    world.run_for(SECOND);
    assert_eq!((world.guest.server.sessions(), world.guest.server.counters().closed), (0, 1));
}

#[test]
fn an_old_client_that_asks_keeps_its_connection() {
    let get = "GET /session HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let (all, closed) = replies(get.repeat(3).as_bytes(), &[false; 3]);
    assert!(!closed);
    for reply in &all {
        assert_eq!((reply.status, reply.field("connection")), (200, Some("keep-alive")), "{}", reply.head);
    }
    let (reply, closed) = one("GET /session HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n");
    assert_eq!((reply.field("connection"), closed), (Some("close"), true), "{}", reply.head);
}

#[test]
fn nothing_can_be_broken_unless_the_command_line_says_so() {
    let (reply, closed) = one("POST /fault?kind=panic HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    assert_eq!((reply.status, closed), (404, false), "{}", reply.head);
}
