//! How links end: each end is reported once, with its cause.
#![allow(clippy::unwrap_used)]

mod support;

use escape_link::pki::ClusterAuthority;
use escape_link::{LinkFault, LinkLimits, ListenerLimits};
use escape_proto::{FRAME_MAX, Role, encode};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::thread;
use std::time::Duration;
use support::{Pair, all_roles, framed, hello, node, raw_client};

/// Turns until the answerer has ended; everything that it reported.
fn answerer_ends(pair: &mut Pair) -> LinkFault {
    pair.until("the answerer ends", |pair| {
        while let Some(link) = &mut pair.answerer {
            match link.recv() {
                Ok(Some(_)) => {}
                Ok(None) => return link.is_dead(),
                Err(error) => pair.answerer_errors.push(error),
            }
        }
        false
    });
    for _ in 0..3 {
        pair.turn();
        let link = pair.answerer.as_mut().unwrap();
        assert!(link.recv().unwrap().is_none());
        link.flush().unwrap();
        link.on_ready(true, true).unwrap();
        assert!(matches!(link.send(&1u8).unwrap_err().fault, LinkFault::NotOpen));
    }
    assert_eq!(pair.answerer_errors.len(), 1, "{:?}", pair.answerer_errors);
    pair.answerer_errors.remove(0).fault
}

#[test]
fn a_farewell_is_told_after_the_last_message() {
    let mut pair = Pair::open(LinkLimits::default());
    let caller = pair.caller.as_mut().unwrap();
    caller.send(&1u32).unwrap();
    caller.send(&2u32).unwrap();
    caller.close();
    pair.until("first", |pair| pair.answerer.as_mut().unwrap().next_message::<u32>().unwrap() == Some(1));
    assert_eq!(pair.answerer.as_mut().unwrap().next_message::<u32>().unwrap(), Some(2));
    assert!(matches!(answerer_ends(&mut pair), LinkFault::Closed));
}

#[test]
fn a_message_that_cannot_be_decoded_ends_the_link() {
    let mut pair = Pair::open(LinkLimits::default());
    let caller = pair.caller.as_mut().unwrap();
    caller.send_parts(&[&[0xff; 12]]).unwrap();
    caller.flush().unwrap();
    let mut fault = None;
    pair.until("an error", |pair| {
        fault = pair.answerer.as_mut().unwrap().next_message::<u32>().err();
        fault.is_some()
    });
    assert!(matches!(fault.unwrap().fault, LinkFault::Malformed(_)));
    pair.until("the caller is told", |pair| {
        let end = pair.caller.as_mut().unwrap().recv().err();
        pair.caller_errors.extend(end);
        !pair.caller_errors.is_empty()
    });
}

/// Opens a link from a raw client that sends `bytes` after its hello and ends without farewell.
fn raw_end(bytes: Vec<u8>) -> LinkFault {
    let authority = ClusterAuthority::new("cell-a").unwrap();
    let own = authority.issue(Role::Orchestrator).unwrap().identity().unwrap();
    let mut pair = Pair::new(&own, hello(Role::Orchestrator), all_roles(), ListenerLimits::default());
    let secrets = authority.issue(node(1)).unwrap();
    let addr = pair.listener.local_addr();
    let client = thread::spawn(move || {
        let mut tls = raw_client(&secrets, "orchestrator.cell-a.escape", addr);
        tls.write_all(&framed(&encode(&hello(node(1))).unwrap())).unwrap();
        assert!(tls.read(&mut [0; 200]).unwrap() > 4);
        tls.write_all(&bytes).unwrap();
        tls.flush().unwrap();
        thread::sleep(Duration::from_millis(50));
    });
    pair.until("open", |pair| pair.answerer.is_some());
    let fault = answerer_ends(&mut pair);
    client.join().unwrap();
    fault
}

#[test]
fn an_end_without_farewell_is_truncation() {
    assert!(matches!(raw_end(vec![]), LinkFault::Truncated { partial: 0 }));
    assert!(matches!(raw_end(vec![100, 0, 0, 0, 1, 2]), LinkFault::Truncated { partial: 6 }));
}

#[test]
fn a_wild_length_on_an_open_link_ends_it() {
    let claimed = u32::try_from(FRAME_MAX + 1).unwrap().to_le_bytes();
    assert!(matches!(raw_end(claimed.to_vec()), LinkFault::Oversize { limit: FRAME_MAX, .. }));
}

#[test]
fn a_flipped_bit_on_the_way_ends_the_link() {
    let authority = ClusterAuthority::new("cell-a").unwrap();
    let own = authority.issue(Role::Orchestrator).unwrap().identity().unwrap();
    let mut pair = Pair::new(&own, hello(Role::Orchestrator), all_roles(), ListenerLimits::default());
    let relay = TcpListener::bind("127.0.0.1:0").unwrap();
    let (front, back) = (relay.local_addr().unwrap(), pair.listener.local_addr());
    let relaying = thread::spawn(move || {
        let (mut near, _) = relay.accept().unwrap();
        let mut far = TcpStream::connect(back).unwrap();
        let (mut far_in, mut near_out) = (far.try_clone().unwrap(), near.try_clone().unwrap());
        let down = thread::spawn(move || std::io::copy(&mut far_in, &mut near_out));
        let mut piece = [0; 65_536];
        let mut flip = false;
        while let Ok(n @ 1..) = near.read(&mut piece) {
            // The message of 30,000 bytes is the first long read.
            if n > 8000 && !flip {
                piece[n / 2] ^= 0x10;
                flip = true;
            }
            if far.write_all(&piece[..n]).is_err() {
                break;
            }
        }
        let _ = near.shutdown(std::net::Shutdown::Both);
        let _ = far.shutdown(std::net::Shutdown::Both);
        let _ = down.join().unwrap();
    });
    let calling = authority.issue(node(1)).unwrap().identity().unwrap();
    pair.call_at(front, &calling, Role::Orchestrator, hello(node(1)), LinkLimits::default());
    pair.until("open", Pair::both_open);
    pair.exchange();
    pair.caller.as_mut().unwrap().send_parts(&[&[3; 30_000]]).unwrap();
    pair.caller.as_mut().unwrap().flush().unwrap();
    let fault = answerer_ends(&mut pair);
    assert!(matches!(fault, LinkFault::Tls(rustls::Error::DecryptError)), "{fault}");
    pair.caller.take();
    relaying.join().unwrap();
}

/// Makes a socket forget its connection without a word to the peer, as a machine that lost power does.
fn vanish(link: &mut escape_link::Link) -> bool {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open, the option's value is a c_int that lives through the call and its size is given.
    let result = unsafe {
        libc::setsockopt(
            link.source().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_REPAIR,
            std::ptr::from_ref(&on).cast(),
            u32::try_from(size_of_val(&on)).unwrap(),
        )
    };
    result == 0
}

/// Closes the socket of a link without the link's farewell.
fn cut(mut link: escape_link::Link) {
    let fd = link.source().as_raw_fd();
    std::mem::forget(link);
    // SAFETY: the link that owned the descriptor was forgotten just above, so nobody else closes or uses it.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
}

#[test]
fn a_peer_that_vanished_is_noticed() {
    let mut pair = Pair::open(LinkLimits::default());
    let mut caller = pair.caller.take().unwrap();
    if !vanish(&mut caller) {
        println!("SKIPPED: TCP_REPAIR needs CAP_NET_ADMIN");
        return;
    }
    cut(caller);
    // Nothing is sent by either end: a retransmission or a keepalive probe (1 s) finds out.
    let fault = answerer_ends(&mut pair);
    assert!(matches!(fault, LinkFault::Socket(_)), "{fault}");
}
