//! What passes, where to, and what does not.
#![allow(clippy::unwrap_used)]

mod bed;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use bed::frames::{ACK, FIN, FRAGMENT_AT, PROTOCOL_AT, RST, SYN, from_client, tcp, to_client};
use bed::random::Random;
use bed::{Bed, CLIENT, CLIENT_MAC, PORT, SEED, SERVICE, SERVICE_MAC, can_run, on_new_and_old_kernels};
use escape_fabric::fabric::{BUCKETS, Fabric, FabricConfig, Flow, GroupPlace, PlaceBy, bucket_of};

const GROUP: u32 = 41;

fn all_buckets(group: u32) -> Vec<(u16, u32)> {
    (0..BUCKETS).map(|bucket| (bucket, group)).collect()
}

fn placed(owner: u16, mirror: u16) -> GroupPlace {
    GroupPlace { group: GROUP, owner: Some(owner), mirror: Some(mirror) }
}

fn flow(port: u16) -> Flow {
    Flow::new(CLIENT, port, PORT)
}

#[test]
fn a_new_flow_is_placed_mirrored_answered_and_moved() {
    on_new_and_old_kernels(|removal| {
        let mut bed = Bed::removing(3, removal);
        let mut fabric = bed.install();
        fabric.set_buckets(&all_buckets(GROUP)).unwrap();
        fabric.apply(&[placed(0, 1)]).unwrap();

        let syn = from_client(&flow(4000), SYN);
        bed.uplink.send(&syn);
        bed.nodes[0].data.must_receive(&syn);
        bed.nodes[1].mirror.must_receive(&syn);
        bed.nodes[1].data.must_be_silent();
        assert_eq!(fabric.flows().unwrap(), [(flow(4000), GROUP)]);

        let answer = to_client(&flow(4000), SYN | ACK);
        bed.nodes[0].data.send(&answer);
        bed.uplink.must_receive(&answer);
        bed.nodes[1].data.send(&to_client(&flow(4000), RST));
        bed.nodes[1].mirror.send(&to_client(&flow(4000), RST));
        bed.uplink.must_be_silent();
        assert_eq!((fabric.drops_of(0).unwrap(), fabric.drops_of(1).unwrap()), (0, 2));

        // The flip: owner, permission and mirror at once.
        fabric.apply(&[placed(1, 2)]).unwrap();
        let data = from_client(&flow(4000), ACK);
        bed.uplink.send(&data);
        bed.nodes[1].data.must_receive(&data);
        bed.nodes[2].mirror.must_receive(&data);
        bed.nodes[0].data.must_be_silent();
        bed.nodes[0].data.send(&answer);
        bed.uplink.must_be_silent();
        bed.nodes[1].data.send(&answer);
        bed.uplink.must_receive(&answer);

        let counters = fabric.counters().unwrap();
        assert_eq!((counters.placed, counters.steered, counters.mirrored), (1, 2, 2));
        assert_eq!((counters.sent[&0], counters.sent[&1], counters.sent[&2]), (1, 1, 0));
        assert_eq!((counters.refused(), counters.dropped[&0], counters.dropped[&1]), (0, 1, 2));
    });
}

#[test]
fn every_refusal_is_counted_under_its_cause() {
    if !can_run() {
        return;
    }
    let mut bed = Bed::new(1);
    let mut fabric = bed.install();
    fabric.apply(&[GroupPlace { group: GROUP, owner: Some(0), mirror: None }]).unwrap();
    let good = from_client(&flow(4000), SYN);
    let bent = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut frame = good.clone();
        change(&mut frame);
        frame
    };
    bed.uplink.send(&good); // no bucket has a group yet
    fabric.set_buckets(&all_buckets(GROUP)).unwrap();
    for flags in [ACK, SYN | ACK, RST, FIN | ACK, 0, SYN | FIN, SYN | RST] {
        bed.uplink.send(&from_client(&flow(4001), flags)); // unknown flow, 7 times
    }
    bed.uplink.send(&from_client(&Flow::new(CLIENT, 4000, 22), SYN)); // wrong port
    bed.uplink.send(&bent(&|frame| frame[14 + 19] = 77)); // not the service's address
    bed.uplink.send(&bent(&|frame| frame[PROTOCOL_AT] = 1)); // ICMP
    bed.uplink.send(&bent(&|frame| frame[PROTOCOL_AT] = 17)); // UDP
    bed.uplink.send(&bent(&|frame| frame[FRAGMENT_AT] = 0x20)); // first fragment
    bed.uplink.send(&bent(&|frame| frame[FRAGMENT_AT + 1] = 3)); // later fragment
    bed.uplink.send(&bent(&|frame| frame[12..14].copy_from_slice(&[0x86, 0xdd]))); // IPv6
    bed.uplink.send(&bent(&|frame| frame.splice(12..12, [0x81, 0, 0, 5]).for_each(drop))); // VLAN 5
    bed.uplink.send(&bent(&|frame| {
        // the header says 20 bytes of TCP less than are there
        frame.truncate(14 + 20 + 1);
        frame[17] = 21;
    }));
    bed.nodes[0].data.must_be_silent();
    let counters = fabric.counters().unwrap();
    assert_eq!(counters.no_bucket, 1);
    assert_eq!(counters.unknown_flow, 7);
    assert_eq!(counters.wrong_port, 1);
    assert_eq!(counters.not_service, 1);
    assert_eq!(counters.icmp, 1);
    assert_eq!(counters.not_tcp, 1);
    assert_eq!(counters.fragment, 2);
    assert_eq!(counters.other, 3);
    assert_eq!((counters.placed, counters.steered), (0, 0));
    assert_eq!(fabric.flows().unwrap(), []);

    // A group without owner: the flow is learned, and comes through once there is an owner.
    fabric.apply(&[GroupPlace { group: GROUP, owner: None, mirror: None }]).unwrap();
    bed.uplink.send(&good);
    assert_eq!(fabric.counters().unwrap().no_owner, 1);
    fabric.apply(&[GroupPlace { group: GROUP, owner: Some(0), mirror: None }]).unwrap();
    bed.uplink.send(&good);
    bed.nodes[0].data.must_receive(&good);
    assert_eq!(fabric.counters().unwrap().placed, 1);
}

#[test]
fn a_node_can_send_nothing_but_frames_of_its_flows() {
    if !can_run() {
        return;
    }
    let mut bed = Bed::new(2);
    let mut fabric = bed.install();
    fabric.apply(&[GroupPlace { group: GROUP, owner: Some(0), mirror: Some(1) }]).unwrap();
    fabric.set_flows(&[(flow(4000), GROUP)]).unwrap();
    let good = to_client(&flow(4000), ACK);
    let client = (CLIENT_MAC, CLIENT, 4000);
    let mut tagged = good.clone();
    tagged.splice(12..12, [0x81, 0, 0, 5]).for_each(drop);
    let mut fragment = good.clone();
    fragment[FRAGMENT_AT] = 0x20;
    let mut udp = good.clone();
    udp[PROTOCOL_AT] = 17;
    let refused: [(&str, Vec<u8>); 9] = [
        ("flow of nobody", to_client(&flow(4001), ACK)),
        ("another source address", tcp((SERVICE_MAC, Ipv4Addr::new(10, 9, 0, 3), PORT), client, ACK, 20)),
        ("another Ethernet source", tcp((CLIENT_MAC, SERVICE, PORT), client, ACK, 20)),
        ("another service port", tcp((SERVICE_MAC, SERVICE, 9090), client, ACK, 20)),
        ("ARP", bed::frames::arp_request(SERVICE, CLIENT)),
        ("VLAN tag", tagged),
        ("fragment", fragment),
        ("UDP", udp),
        ("cut short", good[..33].to_vec()),
    ];
    for (number, (what, frame)) in (1..).zip(&refused) {
        bed.nodes[0].data.send(frame);
        assert_eq!(fabric.drops_of(0).unwrap(), number, "{what}");
    }
    bed.uplink.must_be_silent();
    bed.nodes[1].data.must_be_silent();
    let with_options = tcp((SERVICE_MAC, SERVICE, PORT), client, ACK, 32);
    for frame in [&good, &with_options] {
        bed.nodes[0].data.send(frame);
        bed.uplink.must_receive(frame);
    }
    assert_eq!((fabric.drops_of(0).unwrap(), fabric.drops_of(1).unwrap()), (9, 0));
}

#[test]
fn bucket_of_is_what_the_kernel_chooses() {
    if !can_run() {
        return;
    }
    for by in [PlaceBy::Flow, PlaceBy::Client] {
        the_kernel_chooses_bucket_of(by);
    }
}

fn the_kernel_chooses_bucket_of(by: PlaceBy) {
    let mut random = Random::seeded();
    let mut bed = Bed::new(1);
    let mut fabric = Fabric::install(&bed.namespace, FabricConfig { place_by: by, ..bed.config() }).unwrap();
    let buckets: Vec<_> = (0..BUCKETS).map(|bucket| (bucket, u32::from(bucket))).collect();
    fabric.set_buckets(&buckets).unwrap();
    let mut sent = std::collections::BTreeMap::new();
    while sent.len() < 2_000 {
        let (bits, service_port) = (random.next(), if random.next().is_multiple_of(2) { PORT } else { 9090 });
        let client = Ipv4Addr::from((bits as u32) & 0x7fff_ffff | 0x0100_0000);
        let flow = Flow::new(client, (bits >> 32) as u16, service_port);
        sent.insert(flow.steered(by), u32::from(bucket_of(&flow, SEED, by)));
        bed.uplink.send(&from_client(&flow, SYN));
    }
    let learned = fabric.flows().unwrap();
    assert_eq!(learned, sent.into_iter().collect::<Vec<_>>());
}

#[test]
fn flows_of_a_client_are_steered_together() {
    on_new_and_old_kernels(|removal| {
        let mut bed = Bed::removing(2, removal);
        let config = FabricConfig { place_by: PlaceBy::Client, ..bed.config() };
        let mut fabric = Fabric::install(&bed.namespace, config).unwrap();
        fabric.set_buckets(&all_buckets(GROUP)).unwrap();
        let places =
            [(GROUP, 0), (GROUP + 1, 1)].map(|(group, node)| GroupPlace { group, owner: Some(node), mirror: None });
        fabric.apply(&places).unwrap();
        let from = |port, service_port| Flow::new(Ipv4Addr::new(10, 1, 1, 1), port, service_port);
        // The first SYN is placed; what follows goes where it went, from whatever port.
        for flow in [from(1000, PORT), from(1001, 9090)] {
            let syn = from_client(&flow, SYN);
            bed.uplink.send(&syn);
            bed.nodes[0].data.must_receive(&syn);
        }
        assert_eq!(fabric.flows().unwrap(), [(from(0, 0), GROUP)]);
        // Its slice belongs to another group: all of its flows do, and new ones.
        fabric.set_flows(&[(from(0, 0), GROUP + 1)]).unwrap();
        for flow in [from(1000, PORT), from(1002, PORT)] {
            let syn = from_client(&flow, SYN);
            bed.uplink.send(&syn);
            bed.nodes[1].data.must_receive(&syn);
        }
        bed.nodes[0].data.must_be_silent();
        // Only its owner may send to it, from protected ports alone.
        let to_client = |service_port| {
            tcp((SERVICE_MAC, SERVICE, service_port), (CLIENT_MAC, Ipv4Addr::new(10, 1, 1, 1), 1001), ACK, 20)
        };
        for (node, port, passes) in [(0, PORT, false), (1, 22, false), (1, PORT, true), (1, 9090, true)] {
            bed.nodes[node].data.send(&to_client(port));
            if passes {
                bed.uplink.must_receive(&to_client(port));
            }
        }
        bed.uplink.must_be_silent();
        // Frames of a client that is known reach no unprotected port.
        bed.uplink.send(&from_client(&from(1000, 22), ACK));
        bed.nodes[1].data.must_be_silent();
        fabric.del_flows(&[from(0, 0)]).unwrap();
        let syn = from_client(&from(1003, PORT), SYN);
        bed.uplink.send(&syn);
        bed.nodes[0].data.must_receive(&syn);
    });
}

#[test]
fn the_flow_table_is_bounded() {
    if !can_run() {
        return;
    }
    let mut bed = Bed::new(1);
    let mut fabric = bed.install();
    fabric.set_buckets(&all_buckets(GROUP)).unwrap();
    fabric.apply(&[GroupPlace { group: GROUP, owner: Some(0), mirror: None }]).unwrap();
    let flows: Vec<_> = (0..=u16::MAX).map(|port| (Flow::new(Ipv4Addr::new(10, 1, 1, 1), port, PORT), GROUP)).collect();
    let taken = fabric.set_flows(&flows).unwrap();
    eprintln!("65,536 flows in one transaction: {taken:?} in the kernel");
    bed.uplink.send(&from_client(&flow(4000), SYN));
    bed.nodes[0].data.must_be_silent();
    let counters = fabric.counters().unwrap();
    assert_eq!((counters.flows_full, counters.placed), (1, 0));
    let error = fabric.set_flows(&[(flow(4000), GROUP)]).unwrap_err();
    assert!(matches!(error, escape_fabric::fabric::FabricError::FlowsFull { .. }), "{error}");
    // Known flows can still be told anew, and room made.
    fabric.set_flows(&flows[..10]).unwrap();
    fabric.del_flows(&[flows[0].0, flow(1)]).unwrap();
    let syn = from_client(&flow(4000), SYN);
    bed.uplink.send(&syn);
    bed.nodes[0].data.must_receive(&syn);
}

#[test]
fn an_unconfirmed_flow_expires_and_a_confirmed_one_stays() {
    on_new_and_old_kernels(|removal| {
        let mut bed = Bed::removing(1, removal);
        let config = FabricConfig { learned_expiry: Some(Duration::from_millis(300)), ..bed.config() };
        let mut fabric = Fabric::install(&bed.namespace, config).unwrap();
        fabric.set_buckets(&all_buckets(GROUP)).unwrap();
        bed.uplink.send(&from_client(&flow(4000), SYN));
        bed.uplink.send(&from_client(&flow(4001), SYN));
        assert_eq!(fabric.flows().unwrap().len(), 2);
        fabric.set_flows(&[(flow(4001), GROUP)]).unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        while fabric.flows().unwrap().len() > 1 {
            assert!(Instant::now() < deadline, "an unconfirmed flow did not expire");
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(Duration::from_millis(400));
        assert_eq!(fabric.flows().unwrap(), [(flow(4001), GROUP)]);
    });
}

#[test]
fn flows_can_be_told_while_the_same_are_being_learned() {
    on_new_and_old_kernels(|removal| {
        let Bed { namespace, mut uplink, nodes, .. } = Bed::removing(1, removal);
        let config = FabricConfig {
            ports: nodes.iter().map(bed::NodePort::port).collect(),
            removal,
            ..FabricConfig::new("uplink", SERVICE, SERVICE_MAC, &[PORT])
        };
        let mut fabric = Fabric::install(&namespace, config).unwrap();
        fabric.set_buckets(&all_buckets(GROUP)).unwrap();
        let flows: Vec<_> = (1_000..1_200).map(|port| (flow(port), 7)).collect();
        let syns: Vec<_> = flows.iter().map(|(flow, _)| from_client(flow, SYN)).collect();
        let keys: Vec<_> = flows.iter().map(|(flow, _)| *flow).collect();
        let told = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !told.load(std::sync::atomic::Ordering::Relaxed) {
                    syns.iter().for_each(|syn| uplink.send(syn));
                }
            });
            let begun = Instant::now();
            let mut result = Ok(());
            let mut rounds = 0;
            while result.is_ok() && begun.elapsed() < Duration::from_secs(1) {
                result = fabric.del_flows(&keys).and_then(|_| fabric.set_flows(&flows)).map(|_| rounds += 1);
            }
            told.store(true, std::sync::atomic::Ordering::Relaxed);
            result.unwrap();
            eprintln!("200 flows told {rounds} times, {} placed meanwhile", fabric.counters().unwrap().placed);
        });
        assert_eq!(fabric.flows().unwrap(), flows);
    });
}
