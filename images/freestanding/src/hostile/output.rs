//! Attacks by frames that no slice stands behind.

use crate::guest::Guest;
use crate::packet::{Packet, flag};
use escape_abi::message::Flow;

/// Frames of `flood`.
const FLOOD: u32 = 50_000;
/// EtherType of a VLAN tag (IEEE 802.1Q).
const VLAN: u16 = 0x8100;
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
const UDP: u8 = 17;
const ICMP: u8 = 1;

/// Every kind of segment of connections that nobody has: an RST would end a connection of another node.
pub fn unbound_flow(guest: &mut Guest) {
    let (ip, service_port) = (guest.params.ip, guest.params.http_port);
    let flow = Flow { ip: [10, 9, 0, 1], port: 4999, service_port };
    for flags in [flag::RST, flag::RST | flag::ACK, flag::SYN | flag::ACK, flag::FIN | flag::ACK, flag::ACK, 0, 0xff] {
        let frame = Packet { flags, ..Packet::new(ip, flow) }.frame(b"never");
        guest.wire.send(&frame);
    }
}

/// What is not TCP of the service's ports: ARP, IPv6, UDP, ICMP, another port.
pub fn unprotected(guest: &mut Guest) {
    let good = guest.bad.packet();
    let other_port = Flow { service_port: 22, ..good.flow };
    for packet in [
        Packet { ethertype: ARP, ..good },
        Packet { ethertype: IPV6, ..good },
        Packet { protocol: UDP, ..good },
        Packet { protocol: ICMP, ..good },
        Packet { flow: other_port, ..good },
    ] {
        let frame = packet.frame(b"never");
        guest.wire.send(&frame);
    }
}

/// TCP where a quick look does not find it: fragments, a VLAN tag, options, a wrong version, bytes after the packet.
pub fn hidden_tcp(guest: &mut Guest) {
    let good = guest.bad.packet();
    for packet in [
        Packet { fragment: 0x2000, ..good },
        Packet { fragment: 1, ..good },
        Packet { fragment: 0x1fff, ..good },
        Packet { ethertype: VLAN, ..good },
    ] {
        let frame = packet.frame(b"never");
        guest.wire.send(&frame);
    }
    for (at, value) in [(14, 0x46), (14, 0x65), (14, 0x44), (46, 0xf0), (46, 0x10), (17, 0xff)] {
        let mut frame = good.frame(b"never");
        frame[at] = value;
        guest.wire.send(&frame);
    }
    let mut frame = good.frame(b"never");
    frame.extend([0; 40]);
    guest.wire.send(&frame);
}

/// The bad slice's segments from addresses that are not the service's.
pub fn spoofed(guest: &mut Guest) {
    let good = guest.bad.packet();
    for source_ip in [[10, 9, 0, 1], [127, 0, 0, 1], [0; 4], [255; 4]] {
        let frame = Packet { source_ip, ..good }.frame(b"never");
        guest.wire.send(&frame);
    }
}

/// Sequence numbers half the number space away from what is committed.
pub fn horizon(guest: &mut Guest) {
    guest.bad_says(b"first");
    guest.let_the_host_commit();
    guest.bad.get_ref();
    let mut packet = guest.bad.packet();
    packet.sequence = packet.sequence.wrapping_add(1 << 30);
    let frame = packet.frame(b"never");
    guest.wire.send(&frame);
    guest.bad.put_ref();
}

/// As many frames as the device takes.
pub fn flood(guest: &mut Guest) {
    let (ip, service_port) = (guest.params.ip, guest.params.http_port);
    for n in 0..FLOOD {
        let flow = Flow { ip: [10, 9, 1, 1], port: n as u16, service_port };
        let frame = Packet { sequence: n, ..Packet::new(ip, flow) }.frame(b"never");
        guest.wire.send(&frame);
    }
}
