//! Messages arrive whole, in order, once; a receiver that does not read slows nobody but its sender.
#![allow(clippy::unwrap_used)]

mod support;

use escape_link::{Link, LinkFault, LinkLimits};
use escape_proto::FRAME_MAX;
use std::time::Duration;
use support::{Pair, Random};

/// Message `n` of a direction: its number, then bytes that follow from it.
fn body(n: u64, len: usize) -> Vec<u8> {
    let mut random = Random(n);
    let mut bytes = n.to_le_bytes().to_vec();
    bytes.resize_with(8 + len, || u8::try_from(random.next() & 0xff).unwrap());
    bytes
}

fn length(n: u64, salt: u64) -> usize {
    let mut random = Random(n ^ salt);
    match random.below(1000) {
        0 => random.below(300_000),
        1..50 => random.below(20_000),
        _ => random.below(200),
    }
}

struct Direction {
    salt: u64,
    sent: u64,
    received: u64,
    total: u64,
}

impl Direction {
    fn send(&mut self, link: &mut Link) {
        for _ in 0..64 {
            if self.sent == self.total {
                break;
            }
            let bytes = body(self.sent, length(self.sent, self.salt));
            let (head, tail) = bytes.split_at(bytes.len() / 3);
            match link.send_parts(&[head, tail]) {
                Ok(()) => self.sent += 1,
                Err(e) if e.is_congested() => break,
                Err(e) => panic!("{e}"),
            }
        }
        link.flush().unwrap();
    }

    fn receive(&mut self, link: &mut Link) {
        while let Some(frame) = link.recv().unwrap() {
            let want = body(self.received, length(self.received, self.salt));
            assert!(frame == want, "message {} of seed {:#x} differs", self.received, self.salt);
            self.received += 1;
        }
    }
}

#[test]
fn a_hundred_thousand_messages_both_ways_are_whole_and_in_order() {
    let seed = u64::from(std::process::id()) << 20 | 0xE5CA;
    let seed = std::env::var("LINK_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(seed);
    println!("seed {seed}; replay with LINK_TEST_SEED={seed}");
    let limits = LinkLimits { outgoing_bytes_max: 1 << 21, ..LinkLimits::default() };
    let mut pair = Pair::open(limits);
    let mut up = Direction { salt: seed, sent: 0, received: 0, total: 100_000 };
    let mut down = Direction { salt: !seed, sent: 0, received: 0, total: 100_000 };
    let (mut last, mut idle) = (0, 0);
    while up.received < up.total || down.received < down.total {
        let mut caller = pair.caller.take().unwrap();
        let mut answerer = pair.answerer.take().unwrap();
        up.send(&mut caller);
        down.send(&mut answerer);
        up.receive(&mut answerer);
        down.receive(&mut caller);
        pair.caller = Some(caller);
        pair.answerer = Some(answerer);
        pair.turn();
        assert!(pair.caller_errors.is_empty() && pair.answerer_errors.is_empty());
        let sum = up.received + down.received;
        idle = if sum == last { idle + 1 } else { 0 };
        last = sum;
        assert!(idle < 500, "nothing arrives any more at {} and {}", up.received, down.received);
    }
    let counters = pair.caller.as_ref().unwrap().counters();
    assert_eq!((counters.messages_out, counters.messages_in), (100_000, 100_000));
}

#[test]
fn the_longest_frame_passes_and_one_byte_more_is_refused_by_the_sender() {
    let mut pair = Pair::open(LinkLimits { outgoing_bytes_max: 0, ..LinkLimits::default() });
    let longest = vec![0x5a; FRAME_MAX];
    let too_long = pair.caller.as_mut().unwrap().send_parts(&[&longest, &[1]]).unwrap_err();
    assert!(matches!(too_long.fault, LinkFault::Unsendable(_)) && !too_long.is_fatal());
    pair.caller.as_mut().unwrap().send_parts(&[&longest]).unwrap();
    pair.caller.as_mut().unwrap().flush().unwrap();
    pair.until("the longest frame", |pair| {
        pair.answerer.as_mut().unwrap().recv().unwrap().is_some_and(|frame| frame == longest)
    });
    pair.exchange();
}

#[test]
fn a_receiver_that_does_not_read_congests_its_sender_and_nothing_is_lost() {
    let limit = 2 << 20;
    let mut pair = Pair::open(LinkLimits { outgoing_bytes_max: limit, ..LinkLimits::default() });
    let piece = |n: u64| body(n, 4000);
    let mut accepted = 0u64;
    let congested = loop {
        let caller = pair.caller.as_mut().unwrap();
        match caller.send_parts(&[&piece(accepted)]) {
            Ok(()) => accepted += 1,
            Err(error) => {
                caller.flush().unwrap();
                // Socket buffers may have made room; it is congestion when a flush frees nothing.
                if caller.send_parts(&[&piece(accepted)]).is_err() {
                    break error;
                }
                accepted += 1;
            }
        }
        assert!(pair.caller.as_ref().unwrap().queued() <= limit);
        assert!(accepted < 100_000, "never congested");
    };
    assert!(congested.is_congested() && !congested.is_fatal(), "{congested}");
    assert!(pair.caller.as_ref().unwrap().is_open());
    let mut received = 0;
    pair.until("all that was accepted", |pair| {
        while let Some(frame) = pair.answerer.as_mut().unwrap().recv().unwrap() {
            assert!(frame == piece(received), "message {received}");
            received += 1;
        }
        received == accepted
    });
    assert_eq!(pair.caller.as_ref().unwrap().queued(), 0);
    std::thread::sleep(Duration::from_millis(20));
    pair.exchange();
}
