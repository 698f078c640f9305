//! The freestanding image on real KVM, with the test as its host and wire. Without `/dev/kvm` the tests say so loudly and
//! pass.
#![allow(clippy::unwrap_used)]

mod guest;
mod wire;

use escape_abi::layout::{SLOT_SIZE, slot_address};
use escape_abi::{GuestMessage, HostMessage};
use escape_vmm::{Fault, SlotMemory};
use guest::{Event, GUEST_MAC, Guest};
use std::time::{Duration, Instant};
use wire::{ACK, Client, PSH, SYN, Segment, arp_request};

/// Opens a connection; returns the slot that the guest bound to it.
fn connect(guest: &mut Guest, client: &mut Client) -> u32 {
    let syn = client.frame(SYN, b"");
    guest.deliver(&syn);
    let (slot, flow) = guest.wait("Bind before the SYN-ACK", |event| match event {
        Event::Message(GuestMessage::Bind { slot, flow, .. }) => Some((slot, flow)),
        Event::Frame(frame) => panic!("a frame before the binding: {:?}", Segment::parse(&frame)),
        Event::Message(_) => None,
    });
    assert_eq!((flow.port, flow.ip), (client.port, wire::CLIENT_IP));
    let answer = guest.segment_to(client.port);
    assert_eq!((answer.flags, answer.ack), (SYN | ACK, client.seq));
    client.ack = answer.seq.wrapping_add(1);
    let ack = client.frame(ACK, b"");
    guest.deliver(&ack);
    slot
}

/// Sends a request and returns the reply's first line and last line.
fn request(guest: &mut Guest, client: &mut Client, text: &str) -> (String, String) {
    let frame = client.frame(ACK | PSH, text.as_bytes());
    guest.deliver(&frame);
    let reply = loop {
        let segment = guest.segment_to(client.port);
        if !segment.data.is_empty() {
            break segment;
        }
    };
    assert_eq!(reply.seq, client.ack);
    client.ack = client.ack.wrapping_add(reply.data.len() as u32);
    let text = String::from_utf8(reply.data).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    (lines[0].to_owned(), lines[lines.len() - 1].to_owned())
}

const COUNT: &str = "POST /counter HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n";

#[test]
fn it_answers_arp_and_http() {
    let Some(mut guest) = Guest::booted() else { return };
    guest.deliver(&arp_request());
    let reply = guest.wait("an ARP reply", |event| match event {
        Event::Frame(frame) if frame[12..14] == [8, 6] => Some(frame),
        _ => None,
    });
    assert_eq!((&reply[..6], &reply[20..22], &reply[22..28]), (&wire::CLIENT_MAC[..], &[0, 2][..], &GUEST_MAC[..]));
    let mut client = Client::new(4000);
    connect(&mut guest, &mut client);
    for count in 1..=50 {
        assert_eq!(request(&mut guest, &mut client, COUNT), ("HTTP/1.1 200 OK".into(), count.to_string()));
    }
}

#[test]
fn a_frame_with_a_wrong_checksum_does_nothing() {
    let Some(mut guest) = Guest::booted() else { return };
    let mut client = Client::new(4001);
    connect(&mut guest, &mut client);
    let mut bad = client.frame(ACK | PSH, b"POST /counter HTTP/1.1\r\nHost: test\r\n\r\n");
    client.seq -= 38;
    let last = bad.len() - 1;
    bad[last] ^= 1;
    guest.deliver(&bad);
    assert_eq!(request(&mut guest, &mut client, COUNT).1, "1", "the damaged request was not counted");
}

#[test]
fn it_sleeps_when_idle_and_answers_a_ping() {
    let Some(mut guest) = Guest::booted() else { return };
    std::thread::sleep(Duration::from_millis(50));
    while guest.next_event().is_some() {}
    let before = guest.vm.control().turns();
    std::thread::sleep(Duration::from_millis(200));
    assert!(guest.vm.control().turns() - before <= 2, "an idle guest turns its loop");
    guest.vm.control().ping(41);
    guest.vm.control().notify();
    let start = Instant::now();
    while guest.vm.control().pong() != 41 {
        assert!(start.elapsed() < Duration::from_secs(5), "no answer; console: {}", guest.console());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Makes every pointer of the slot into itself point to where nothing is mapped; returns how many there were.
fn break_pointers(guest: &Guest, slot: u32) -> usize {
    const NOWHERE: u64 = 0x5ead_0000_0000;
    let here = slot_address(slot)..slot_address(slot) + SLOT_SIZE as u64;
    let mut count = 0;
    for offset in (0..8 << 10).step_by(8) {
        let mut word = [0; 8];
        assert!(guest.vm.slots().read(slot, offset, &mut word));
        if here.contains(&u64::from_le_bytes(word)) {
            assert!(guest.vm.slots().write(slot, offset, &NOWHERE.to_le_bytes()));
            count += 1;
        }
    }
    count
}

#[test]
fn a_damaged_slice_is_poisoned_and_the_others_live_on() {
    let Some(mut guest) = Guest::booted() else { return };
    let (mut good, mut bad) = (Client::new(5000), Client::new(5001));
    connect(&mut guest, &mut good);
    let slot = connect(&mut guest, &mut bad);
    assert_eq!(request(&mut guest, &mut bad, COUNT).1, "1");
    assert!(break_pointers(&guest, slot) > 0);
    let frame = bad.frame(ACK | PSH, COUNT.as_bytes());
    guest.deliver(&frame);
    let (incarnation, cause) = guest.wait("Poisoned", |event| match event {
        Event::Message(GuestMessage::Poisoned { slot: poisoned, incarnation, cause }) if poisoned == slot => {
            Some((incarnation, cause))
        }
        _ => None,
    });
    assert_eq!(cause, 14, "a page fault");
    assert!(!guest.vm.slots().word(slot).unwrap().quiescent(), "its bytes must not be taken for a consistent cut");
    guest.vm.control().send(HostMessage::Discard { slot, incarnation });
    guest.vm.control().notify();
    guest.wait("Unplugged", |event| match event {
        Event::Message(GuestMessage::Unplugged { slot: unplugged, .. }) => (unplugged == slot).then_some(()),
        _ => None,
    });
    assert!(guest.vm.slots().word(slot).unwrap().quiescent());
    for count in 1..=3 {
        assert_eq!(request(&mut guest, &mut good, COUNT).1, count.to_string());
    }
    connect(&mut guest, &mut Client::new(5002));
}

#[test]
fn it_boots_again_after_a_crash() {
    let Some(mut guest) = Guest::booted() else { return };
    guest.vm.inject_fault(Fault::Crash).unwrap();
    let exit = guest.wait_exit();
    println!("ended: {exit}");
    guest.vm.restart().unwrap();
    guest.lease_once_ready();
    let mut client = Client::new(6000);
    connect(&mut guest, &mut client);
    assert_eq!(request(&mut guest, &mut client, COUNT).1, "1");
}
