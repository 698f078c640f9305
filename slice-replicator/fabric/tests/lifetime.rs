//! Interfaces that go, fabrics that are replaced, and nothing left behind.
#![allow(clippy::unwrap_used)]

mod bed;

use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use bed::frames::{ACK, arp_request, from_client};
use bed::{Bed, CLIENT, CLIENT_MAC, NodePort, PORT, SERVICE, SERVICE_MAC, Wire, can_run, on_new_and_old_kernels};
use escape_fabric::arp::ArpResponder;
use escape_fabric::fabric::{Contents, Fabric, FabricError, Flow, GroupPlace};
use escape_fabric::link_watch::{LinkEvent, LinkWatch};
use escape_fabric::links::{LinkSpec, Links};
use escape_fabric::netns::{NetNs, enter_fd};
use escape_fabric::nft::TableOwnership;
use escape_fabric::tap::{QUEUE_FRAMES, Tap, TapLifetime, inherit_fd};

const LIMIT: Duration = Duration::from_secs(5);

fn place(group: u32, owner: u16, mirror: u16) -> GroupPlace {
    GroupPlace { group, owner: Some(owner), mirror: Some(mirror) }
}

/// Reads news until `wanted` is among them.
#[track_caller]
fn wait_for(watch: &mut LinkWatch, wanted: impl Fn(&LinkEvent) -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !watch.on_readable().unwrap().iter().any(&wanted) {
        assert!(Instant::now() < deadline, "the news did not come");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_vanished_port_is_noticed_and_taken_out() {
    if !can_run() {
        return;
    }
    let mut bed = Bed::new(3);
    let mut watch = LinkWatch::open_in(&bed.namespace).unwrap();
    let mut fabric = bed.install();
    fabric.apply(&[place(1, 0, 1), place(2, 1, 2), place(3, 2, 1)]).unwrap();
    let flows = [1, 2, 3].map(|group| (Flow::new(CLIENT, group, PORT), u32::from(group)));
    fabric.set_flows(&flows).unwrap();
    assert_eq!(fabric.remove_vanished_ports().unwrap(), []);

    let lost = bed.nodes.remove(1);
    let (node, index) = (lost.node, lost.data.index);
    drop(lost);
    wait_for(&mut watch, |event| matches!(event, LinkEvent::Gone { index: gone, .. } if *gone == index));
    let error = fabric.apply(&[place(4, 1, 0)]).unwrap_err();
    assert!(matches!(error, FabricError::PortVanished { node: 1, .. }), "{error}");
    assert_eq!(fabric.remove_vanished_ports().unwrap(), [node]);
    assert!(matches!(fabric.drops_of(node), Err(FabricError::UnknownPort { node: 1 })));

    // Group 1 goes on without mirror, group 2 is nobody's and counted, group 3 goes on.
    for (flow, _) in &flows {
        bed.uplink.send(&from_client(flow, ACK));
    }
    bed.nodes[0].data.must_receive(&from_client(&flows[0].0, ACK));
    bed.nodes[1].data.must_receive(&from_client(&flows[2].0, ACK));
    bed.nodes[1].mirror.must_receive(&from_client(&flows[1].0, ACK));
    let counters = fabric.counters().unwrap();
    assert_eq!((counters.no_owner, counters.steered, counters.mirrored), (1, 2, 1));

    // The node comes back with new interfaces.
    let mut back = NodePort::open(&bed.namespace, node);
    fabric.add_port(back.port()).unwrap();
    assert!(matches!(fabric.add_port(back.port()), Err(FabricError::DuplicatePort { node: 1 })));
    fabric.apply(&[place(2, 1, 2)]).unwrap();
    bed.uplink.send(&from_client(&flows[1].0, ACK));
    back.data.must_receive(&from_client(&flows[1].0, ACK));
    back.data.send(&from_client(&flows[0].0, ACK));
    assert_eq!(fabric.drops_of(node).unwrap(), 1);
}

#[test]
fn a_vanished_uplink_is_said_so() {
    if !can_run() {
        return;
    }
    let bed = Bed::new(1);
    let mut fabric = bed.install();
    drop(bed.uplink);
    let error = fabric.remove_vanished_ports().unwrap_err();
    assert!(matches!(error, FabricError::UplinkVanished { .. }), "{error}");
    assert!(error.to_string().contains("uplink uplink (index"), "{error}");
}

#[test]
fn this_machine_can_be_an_edge() {
    if !can_run() {
        return;
    }
    eprintln!("tables here are {:?}", escape_fabric::fabric::probe().unwrap());
}

#[test]
fn impossible_places_change_nothing() {
    if !can_run() {
        return;
    }
    let mut bed = Bed::new(2);
    let mut fabric = bed.install();
    fabric.apply(&[place(1, 0, 1)]).unwrap();
    fabric.set_flows(&[(Flow::new(CLIENT, 1, PORT), 1)]).unwrap();
    assert!(matches!(fabric.apply(&[place(1, 1, 0), place(2, 9, 0)]), Err(FabricError::NoSuchPort { .. })));
    assert!(matches!(fabric.apply(&[place(1, 1, 0), place(1, 0, 1)]), Err(FabricError::DuplicateGroup { group: 1 })));
    let unprotected = Flow::new(CLIENT, 1, 22);
    assert!(matches!(fabric.set_flows(&[(unprotected, 1)]), Err(FabricError::UnprotectedPort { port: 22 })));
    assert!(matches!(fabric.apply(&[place(u32::MAX, 1, 0)]), Err(FabricError::BadGroup { .. })));
    let many: Vec<_> = (10..5_000).map(|group| place(group, 1, 0)).collect();
    assert!(matches!(fabric.apply(&many), Err(FabricError::TooManyGroups)));
    fabric.apply(&many[..4_095]).unwrap();
    assert!(matches!(fabric.apply(&[place(5_001, 1, 0)]), Err(FabricError::TooManyGroups)));
    let frame = from_client(&Flow::new(CLIENT, 1, PORT), ACK);
    bed.uplink.send(&frame);
    bed.nodes[0].data.must_receive(&frame);
}

#[test]
fn a_fabric_outlives_its_writer_and_is_replaced_in_one_step() {
    on_new_and_old_kernels(|removal| {
        let mut bed = Bed::removing(2, removal);
        let flow = Flow::new(CLIENT, 4000, PORT);
        let mut first = bed.install();
        first.apply(&[place(1, 0, 1)]).unwrap();
        first.set_flows(&[(flow, 1)]).unwrap();
        if first.ownership() == TableOwnership::ExclusiveAndLasting {
            let error = Fabric::install(&bed.namespace, bed.config()).unwrap_err();
            assert!(error.to_string().contains("CAP_NET_ADMIN"), "a second writer is refused: {error}");
        }
        drop(first);
        let frame = from_client(&flow, ACK);
        bed.uplink.send(&frame);
        bed.nodes[0].data.must_receive(&frame);

        let flows = Fabric::flows_in_force(&bed.namespace, "escape").unwrap();
        assert_eq!(flows, [(flow, 1)]);
        let contents = Contents { places: &[place(1, 1, 0)], buckets: &[(0, 1)], flows: &flows };
        let mut second = Fabric::install_with(&bed.namespace, bed.config(), contents).unwrap();
        bed.uplink.send(&frame);
        bed.nodes[1].data.must_receive(&frame);
        bed.nodes[0].data.must_be_silent();
        assert_eq!(second.counters().unwrap().steered, 1);
        second.remove_port(1).unwrap();
        assert!(matches!(second.remove_port(1), Err(FabricError::UnknownPort { node: 1 })));
        second.uninstall().unwrap();
        assert!(Fabric::flows_in_force(&bed.namespace, "escape").is_err());
    });
}

#[test]
fn arp_for_the_service_is_answered_through_the_fabric() {
    if !can_run() {
        return;
    }
    let mut bed = Bed::new(1);
    let mut fabric = bed.install();
    let mut responder = ArpResponder::start(&bed.namespace, bed.uplink.index, SERVICE, SERVICE_MAC).unwrap();
    let announcement = bed.uplink.receive(LIMIT).unwrap();
    assert_eq!(announcement[..14], [&[0xff; 6][..], &SERVICE_MAC, &[8, 6]].concat());
    assert_eq!((&announcement[28..32], &announcement[38..42]), (&SERVICE.octets()[..], &SERVICE.octets()[..]));

    bed.uplink.send(&arp_request(CLIENT, CLIENT));
    bed.uplink.send(&arp_request(CLIENT, SERVICE));
    bed.uplink.send(&arp_request(SERVICE, CLIENT));
    responder.on_readable().unwrap();
    let answer = bed.uplink.receive(LIMIT).unwrap();
    assert_eq!(answer[..12], [CLIENT_MAC, SERVICE_MAC].concat());
    assert_eq!(answer[20..22], [0, 2]);
    assert_eq!(answer[22..28], SERVICE_MAC);
    bed.uplink.must_be_silent();
    let counters = responder.counters();
    assert_eq!((counters.answered, counters.conflicts, counters.malformed), (1, 1, 0));
    assert_eq!(fabric.counters().unwrap().arp, 3);

    // A flood costs no more answers than the budget has.
    for _ in 0..20 {
        for _ in 0..100 {
            bed.uplink.send(&arp_request(CLIENT, SERVICE));
        }
        for _ in 0..2 {
            responder.on_readable().unwrap();
        }
        while bed.uplink.receive(Duration::ZERO).is_some() {}
    }
    let counters = responder.counters();
    assert_eq!(counters.answered + counters.limited + counters.unsent, 2_001);
    assert!(counters.limited > 0, "{counters:?}");
}

#[test]
fn a_namespace_goes_with_its_last_descriptor_and_takes_its_links_along() {
    if !can_run() {
        return;
    }
    let here = NetNs::create().unwrap();
    let there = NetNs::create().unwrap();
    let mut links = Links::open_in(&here).unwrap();
    let near = LinkSpec { name: "near", mac: Some([2, 0, 0, 0, 0, 9]), mtu: Some(1400) };
    let index = links.create_veth(&near, &LinkSpec::named("far"), there.as_fd()).unwrap();
    let bridge = links.create_bridge(&LinkSpec::named("bridge")).unwrap();
    links.enslave(index, Some(bridge)).unwrap();
    links.set_up(index).unwrap();
    let link = links.describe(index).unwrap();
    assert_eq!((link.mac, link.mtu, link.up, link.master), ([2, 0, 0, 0, 0, 9], 1400, true, Some(bridge)));
    links.enslave(index, None).unwrap();
    links.set_down(index).unwrap();
    links.rename(index, "renamed").unwrap();
    links.set_mac(index, SERVICE_MAC).unwrap();
    let link = links.describe(index).unwrap();
    assert_eq!((link.name.as_str(), link.mac, link.up, link.master), ("renamed", SERVICE_MAC, false, None));
    links.delete(bridge).unwrap();
    let far = Links::open_in(&there).unwrap().index_of("far").unwrap();
    assert!(far > 0);

    // A persistent tap may be opened again, by one at a time.
    let tap = Tap::open_in(&here, "tap0", TapLifetime::Persistent).unwrap();
    let error = Tap::open_in(&here, "tap0", TapLifetime::Persistent).unwrap_err();
    assert!(error.to_string().contains("another process has it open"), "{error}");
    let tap_index = tap.index();
    assert_eq!(links.describe(tap_index).unwrap().queue, QUEUE_FRAMES);
    drop(tap);
    assert_eq!(Tap::open_in(&here, "tap0", TapLifetime::Persistent).unwrap().index(), tap_index);

    let mut watch = LinkWatch::open_in(&here).unwrap();
    drop(there);
    wait_for(&mut watch, |event| matches!(event, LinkEvent::Gone { name, .. } if name == "renamed"));
    assert!(links.index_of("renamed").unwrap_err().to_string().contains("no such interface"));
    assert!(NetNs::current().unwrap().enter(|| Links::open_here().unwrap().index_of("tap0")).unwrap().is_err());
    assert!(links.rename(index, "a/b").is_err());
}

#[test]
fn a_child_inherits_the_tap_that_is_meant_for_it_and_lives_in_another_namespace() {
    if !can_run() {
        return;
    }
    let (edge, node) = (NetNs::create().unwrap(), NetNs::create().unwrap());
    let (meant, other) = (Wire::open(&edge, "meant"), Wire::open(&edge, "other"));
    let (node_fd, meant_fd, other_fd) =
        (node.as_fd().as_raw_fd(), meant.as_fd().as_raw_fd(), other.as_fd().as_raw_fd());
    let script = format!(
        "test $(readlink /proc/self/fd/{meant_fd}) = /dev/net/tun && test ! -e /proc/self/fd/{other_fd} && readlink /proc/self/ns/net"
    );
    let mut child = Command::new("sh");
    child.args(["-c", &script]);
    // SAFETY: both functions make one system call and nothing else, which is allowed between fork and exec.
    unsafe { child.pre_exec(move || enter_fd(node_fd).and_then(|()| inherit_fd(meant_fd))) };
    let output = child.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let name = |namespace: &NetNs| namespace.enter(|| std::fs::read_link("/proc/thread-self/ns/net").unwrap()).unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), name(&node).to_str().unwrap());
    assert_ne!(name(&node), name(&edge));
}
