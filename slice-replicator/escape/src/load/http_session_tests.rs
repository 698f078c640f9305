//! Each kind of wrong answer is recognised as what it is.
#![allow(clippy::unwrap_used)]

use super::*;

const SEED: u64 = 11;

/// Sends `count` counter requests and returns the session with the chains after each of them.
fn session_with(count: u64) -> (HttpSession, Vec<Hash>) {
    let mut session = HttpSession::new(SEED, 0);
    let (mut out, mut chains) = (Vec::new(), vec![chain::START]);
    for i in 0..count {
        assert!(session.issue(Some(Request::Counter), i, i, &mut out));
        chains.push(session.issued_chain);
    }
    (session, chains)
}

fn reply(requests: u64, chain: &Hash, body: &str) -> Vec<u8> {
    let hex: String = chain.iter().map(|byte| format!("{byte:02x}")).collect();
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nX-Requests: {requests}\r\nX-Chain: {hex}\r\n\r\n{body}")
        .into_bytes()
}

fn receive(session: &mut HttpSession, bytes: &[u8]) -> Result<u64, Violation> {
    let mut completions = 0;
    session.receive(bytes, 50, &mut |_| completions += 1)?;
    Ok(completions)
}

#[test]
fn right_replies_complete_in_order() {
    let (mut session, chains) = session_with(3);
    for n in 1..=3u64 {
        assert_eq!(receive(&mut session, &reply(n, &chains[n as usize], &n.to_string())), Ok(1));
    }
    assert_eq!((session.in_flight(), session.answered), (0, 3));
}

#[test]
fn the_first_byte_is_timed_apart_from_the_last() {
    let (mut session, chains) = session_with(1);
    let bytes = reply(1, &chains[1], "1");
    let mut seen = None;
    session.receive(&bytes[..10], 70, &mut |_| ()).unwrap();
    session.receive(&bytes[10..], 90, &mut |completion| seen = Some(completion)).unwrap();
    assert_eq!(seen, Some(Completion { scheduled_us: 0, sent_us: 0, first_byte_us: 70, done_us: 90 }));
}

#[test]
fn a_repeated_reply_is_a_duplicate() {
    let (mut session, chains) = session_with(2);
    let first = reply(1, &chains[1], "1");
    receive(&mut session, &first).unwrap();
    assert!(matches!(receive(&mut session, &first), Err(Violation::Duplicated { count: 1, .. })));
    let (mut session, chains) = session_with(1);
    let only = reply(1, &chains[1], "1");
    receive(&mut session, &only).unwrap();
    assert!(matches!(receive(&mut session, &only), Err(Violation::Duplicated { .. })), "nothing was pending");
}

#[test]
fn a_request_executed_twice_is_a_duplicate() {
    let (mut session, chains) = session_with(1);
    let twice = session.pending[0].link.after(&chains[1]);
    assert!(matches!(receive(&mut session, &reply(2, &twice, "2")), Err(Violation::Duplicated { count: 1, .. })));
}

#[test]
fn a_skipped_request_is_lost() {
    let mut session = HttpSession::new(SEED, 0);
    let mut out = Vec::new();
    session.issue(Some(Request::Counter), 0, 0, &mut out);
    session.issue(Some(Request::Bytes { n: 1 }), 0, 0, &mut out);
    let skipping = session.pending[1].link.after(&chain::START);
    assert!(matches!(receive(&mut session, &reply(1, &skipping, "x")), Err(Violation::Lost { count: 1, .. })));
}

#[test]
fn forgotten_answered_requests_are_lost_with_their_number() {
    let (mut session, chains) = session_with(6);
    for n in 1..=5u64 {
        receive(&mut session, &reply(n, &chains[n as usize], &n.to_string())).unwrap();
    }
    let rolled_back = session.pending[0].link.after(&chains[2]);
    let violation = receive(&mut session, &reply(3, &rolled_back, "3")).unwrap_err();
    assert!(matches!(violation, Violation::Lost { count: 3, .. }), "{violation}");
}

#[test]
fn a_reply_ahead_of_its_turn_is_reordered() {
    let (mut session, chains) = session_with(2);
    assert!(matches!(receive(&mut session, &reply(2, &chains[2], "2")), Err(Violation::Reordered { count: 1, .. })));
}

#[test]
fn wrong_chain_status_and_body_are_wrong_bytes() {
    let (mut session, mut chains) = session_with(1);
    assert!(matches!(receive(&mut session, &reply(1, &chains[1], "7")), Err(Violation::WrongBytes { count: 1, .. })));
    let (mut session, _) = session_with(1);
    let not_found = String::from_utf8(reply(1, &chains[1], "1")).unwrap().replace("200 OK", "404 Not Found");
    assert!(matches!(receive(&mut session, not_found.as_bytes()), Err(Violation::WrongBytes { .. })));
    let (mut session, _) = session_with(1);
    chains[1][31] ^= 1;
    assert!(matches!(receive(&mut session, &reply(1, &chains[1], "1")), Err(Violation::WrongBytes { .. })));
}

#[test]
fn the_backlog_is_bounded() {
    let mut session = HttpSession::new(SEED, 0);
    let mut out = Vec::new();
    let sent = (0..2 * PENDING_MAX).filter(|_| session.issue(None, 0, 0, &mut out)).count();
    assert_eq!(sent, PENDING_MAX);
}
