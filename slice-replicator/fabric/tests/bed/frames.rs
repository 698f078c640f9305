//! Ethernet frames made by hand.

use std::net::Ipv4Addr;

use escape_fabric::MacAddress;
use escape_fabric::fabric::Flow;

use super::{CLIENT_MAC, SERVICE, SERVICE_MAC};

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 0x10;

pub const PROTOCOL_AT: usize = 14 + 9;
pub const FRAGMENT_AT: usize = 14 + 6;

/// From the client of a flow to the service.
pub fn from_client(flow: &Flow, flags: u8) -> Vec<u8> {
    let (client, port) = (*flow.client.ip(), flow.client.port());
    tcp((CLIENT_MAC, client, port), (SERVICE_MAC, SERVICE, flow.service_port), flags, 20)
}

/// From the service to the client of a flow.
pub fn to_client(flow: &Flow, flags: u8) -> Vec<u8> {
    let (client, port) = (*flow.client.ip(), flow.client.port());
    tcp((SERVICE_MAC, SERVICE, flow.service_port), (CLIENT_MAC, client, port), flags, 20)
}

/// A TCP segment without data; `ip_header_len` beyond 20 is filled with no-operation options.
pub fn tcp(
    from: (MacAddress, Ipv4Addr, u16),
    to: (MacAddress, Ipv4Addr, u16),
    flags: u8,
    ip_header_len: u8,
) -> Vec<u8> {
    let total = u16::from(ip_header_len) + 20;
    let mut frame = Vec::new();
    frame.extend_from_slice(&to.0);
    frame.extend_from_slice(&from.0);
    frame.extend_from_slice(&[8, 0]);
    frame.extend_from_slice(&[0x40 | (ip_header_len / 4), 0]);
    frame.extend_from_slice(&total.to_be_bytes());
    frame.extend_from_slice(&[0, 1, 0, 0, 64, 6, 0, 0]);
    frame.extend_from_slice(&from.1.octets());
    frame.extend_from_slice(&to.1.octets());
    frame.resize(14 + usize::from(ip_header_len), 1);
    frame.extend_from_slice(&from.2.to_be_bytes());
    frame.extend_from_slice(&to.2.to_be_bytes());
    frame.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    frame
}

/// An ARP request of the client.
pub fn arp_request(sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend_from_slice(&CLIENT_MAC);
    frame.extend_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend_from_slice(&CLIENT_MAC);
    frame.extend_from_slice(&sender.octets());
    frame.extend_from_slice(&[0; 6]);
    frame.extend_from_slice(&target.octets());
    frame
}
