//! What is not this TCP: T15, T20, T21, T22, T26, T27, T37.

use crate::kills::COUNT;
use crate::support::client::{Manual, Options};
use crate::support::guest::{Guest, params, turn_lock};
use crate::support::raw::Raw;
use crate::support::segment::{ACK, FIN, PSH, RST, SYN, Seen, Segment, URG};
use crate::support::world::Survives;
use crate::support::{HTTP, MS, SECOND, SERVER_IP, World};

/// A thousand segments of connections that are not plugged yet: silence, above all no RST; then the plug, and all goes on.
#[test]
fn t15_segments_before_the_plug_get_no_answer() {
    let mut world = World::new(15, 64);
    let flow = Raw::flow(&mut world, 1, HTTP);
    let mut peer = Raw::connect(&mut world, flow, 1, &[]);
    world.turn(vec![], Some(Survives::Everything));
    let mut next = Guest::new(&params(9, 64), 99, &world.arena, 0);
    next.lease(0, 9);
    next.set_time(world.now);
    let lock = turn_lock();
    for n in 0..1000u32 {
        let flags = [ACK, ACK | PSH, ACK | FIN, RST, RST | ACK, SYN | ACK][n as usize % 6];
        next.server.on_frame(&peer.at(n * 7, flags, COUNT).frame());
    }
    next.server.on_timers();
    drop(lock);
    assert_eq!(next.take(), (vec![], vec![]));
    assert_eq!((next.server.counters().unknown_flow, next.server.sessions()), (1000, 0));
    drop(next);
    world.failover();
    peer.send(&mut world, COUNT);
    assert!(peer.take(&mut world).1.ends_with(b"\r\n\r\n1\n"));
}

/// There is no segmentation offload at the guest's device, so no frame is longer than the MTU, whatever is sent (the world checks each).
#[test]
fn t20_no_super_frames() {
    let mut world = World::new(20, 64);
    let options = Options { mtu: 9000, receive: 60_000, ..Options::default() };
    let n = world.connect_with(HTTP, options, Box::new(Manual));
    world.clients[n].outgoing.extend(b"GET /bytes?n=200000 HTTP/1.1\r\nHost: x\r\n\r\n");
    world.poll_client(n);
    world.run_until(20 * SECOND, |w| w.clients[n].incoming.len() > 200_000);
    assert!(world.oracle.frames > 200_000 / 1448);
}

/// Frames that are not unfragmented IPv4/TCP to the service, made from a good one.
fn foreign(good: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut f = good.to_vec();
        change(&mut f);
        f
    };
    let ipv6 = with(&|f| {
        f[12..14].copy_from_slice(&[0x86, 0xdd]);
        f[14] = 0x60;
    });
    let vlan = with(&|f| drop(f.splice(12..12, [0x81, 0, 0, 5])));
    vec![
        ("IPv6", ipv6),
        ("VLAN", vlan),
        ("first fragment", with(&|f| f[20] = 0x20)),
        ("later fragment", with(&|f| f[21] = 1)),
        ("UDP", with(&|f| f[23] = 17)),
        // "Fragmentation needed" about this very connection.
        (
            "ICMP",
            with(&|f| {
                let inner = f[14..62].to_vec();
                f[23] = 1;
                f.truncate(34);
                f.extend([3, 4, 0, 0, 0, 0, 2, 0]);
                f.extend(inner);
                let total = (f.len() - 14) as u16;
                f[16..18].copy_from_slice(&total.to_be_bytes());
            }),
        ),
    ]
}

/// Sends each to an owner and to the next one: no answer, no change, counted; the connection goes on.
fn changes_nothing(names: &[&str]) {
    let mut world = World::new(21, 64);
    let flow = Raw::flow(&mut world, 1, HTTP);
    let mut peer = Raw::connect(&mut world, flow, 1, &[]);
    world.run_for(SECOND);
    let good = peer.at(0, ACK, COUNT).frame();
    let frames: Vec<_> = foreign(&good).into_iter().filter(|f| names.contains(&f.0)).collect();
    assert_eq!(frames.len(), names.len());
    for owner in 1..3u64 {
        for (what, frame) in &frames {
            let (before, word) = (world.guest.server.counters().not_for_us, world.guest.control.word(0));
            world.turn(vec![frame.clone()], None);
            assert_eq!(world.raw_take(flow), [], "{what}");
            assert_eq!(world.guest.server.counters().not_for_us, before + 1, "{what}");
            assert_eq!(world.guest.control.word(0), word, "{what}");
        }
        peer.send(&mut world, COUNT);
        assert!(peer.take(&mut world).1.ends_with(format!("\r\n\r\n{owner}\n").as_bytes()));
        peer.ack(&mut world);
        world.turn(vec![], Some(Survives::Everything));
        world.failover();
        world.run_for(SECOND);
        peer.ack(&mut world);
        world.raw_take(flow);
    }
}

#[test]
fn t21_ipv6_and_vlan_frames_change_nothing() {
    changes_nothing(&["IPv6", "VLAN"]);
}

#[test]
fn t22_fragments_change_nothing() {
    changes_nothing(&["first fragment", "later fragment"]);
}

#[test]
fn t26_udp_changes_nothing() {
    changes_nothing(&["UDP"]);
}

#[test]
fn t27_icmp_changes_nothing() {
    changes_nothing(&["ICMP"]);
    assert_eq!(SERVER_IP[0], 10);
}

/// Urgent data is ordinary data: the flag and the pointer are not looked at, the bytes stay in the stream (as RFC 6093 advises).
#[test]
fn t37_urgent_data_stays_in_line() {
    for survives in Survives::ALL {
        let mut world = World::new(37, 64);
        let flow = Raw::flow(&mut world, 1, HTTP);
        let mut peer = Raw::connect(&mut world, flow, 1, &[]);
        let (a, b) = COUNT.split_at(11);
        let mut urgent = peer.at(0, ACK | URG, a).frame();
        urgent[52..54].copy_from_slice(&5u16.to_be_bytes());
        crate::support::segment::fill_checksums(&mut urgent);
        world.turn(vec![urgent.clone()], Some(survives));
        world.mirror_loss_percent = 0;
        world.failover();
        peer.next = peer.next.wrapping_add(a.len() as u32);
        peer.send(&mut world, b);
        world.run_for(100 * MS);
        assert!(peer.take(&mut world).1.ends_with(b"\r\n\r\n1\n"));
        assert_eq!(Seen::parse(&urgent).flags, ACK | URG);
    }
}

/// A connection request may carry anything: only a pure SYN opens a slice.
#[test]
fn t15_only_a_pure_syn_opens() {
    let mut world = World::new(150, 64);
    let flow = Raw::flow(&mut world, 1, HTTP);
    for flags in [SYN | FIN, SYN | RST, SYN | ACK, FIN, 0, URG | PSH | FIN] {
        world.turn(vec![Segment::new(flow, 1, 0, flags).frame()], None);
    }
    // Data in a SYN (TCP Fast Open) neither.
    world.turn(vec![Segment::new(flow, 1, 0, SYN).payload(COUNT).frame()], None);
    assert_eq!((world.raw_take(flow), world.guest.server.sessions()), (vec![], 0));
}
