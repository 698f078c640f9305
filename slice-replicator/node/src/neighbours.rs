//! Who the clients are on the Ethernet, for guests whose kernel asks.
//!
//! Clients are reached at the addresses that their frames came from. A Linux guest asks for them by ARP, and that is answered here: the
//! question never leaves, so that no machine but the owner of a flow ever speaks for the service's address.

use std::collections::{HashMap, VecDeque};

/// Addresses remembered; the one that was learned first is forgotten for a new one.
const NEIGHBOURS_MAX: usize = 16_384;
/// The virtio-net header before each frame.
const VNET: usize = 12;
/// Bytes of an ARP packet for Ethernet and IPv4 in its frame (RFC 826).
const ARP_FRAME: usize = VNET + 14 + 28;
const ETHERTYPE_AT: usize = VNET + 12;
const IPV4: [u8; 2] = [0x08, 0x00];
const ARP: [u8; 2] = [0x08, 0x06];
/// Ethernet, IPv4, 6 and 4 bytes of address.
const ARP_KIND: [u8; 6] = [0, 1, 8, 0, 6, 4];
const REQUEST: [u8; 2] = [0, 1];
const REPLY: [u8; 2] = [0, 2];

/// Ethernet addresses by IPv4 address.
#[derive(Debug, Default)]
pub struct Neighbours {
    by_ip: HashMap<[u8; 4], [u8; 6]>,
    order: VecDeque<[u8; 4]>,
}

impl Neighbours {
    /// A frame came in.
    pub fn learn(&mut self, frame: &[u8]) {
        let (Some(&mac), Some(&ip)) = (
            frame.get(VNET + 6..).and_then(|f| f.first_chunk::<6>()),
            frame.get(VNET + 14 + 12..).and_then(|f| f.first_chunk::<4>()),
        ) else {
            return;
        };
        let is_ipv4 = frame.get(ETHERTYPE_AT..).is_some_and(|f| f.starts_with(&IPV4));
        if !is_ipv4 || mac.first().is_none_or(|first| first & 1 != 0) {
            return;
        }
        if self.by_ip.insert(ip, mac).is_none() {
            self.order.push_back(ip);
            if self.order.len() > NEIGHBOURS_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.by_ip.remove(&oldest);
            }
        }
    }

    /// The answer to a frame of the guest, if it asks for a client that is known.
    pub fn answer(&self, frame: &[u8]) -> Option<[u8; ARP_FRAME]> {
        let arp = frame.get(VNET + 14..VNET + 14 + 28)?;
        let asks = frame.get(ETHERTYPE_AT..)?.starts_with(&ARP) && arp.starts_with(&ARP_KIND);
        if !asks || arp.get(6..8)? != REQUEST {
            return None;
        }
        let asker: &[u8; 10] = arp.get(8..)?.first_chunk()?;
        let wanted: &[u8; 4] = arp.get(24..)?.first_chunk()?;
        let mac = self.by_ip.get(wanted)?;
        let mut answer = [0; ARP_FRAME];
        let (asker_mac, _) = asker.split_first_chunk::<6>()?;
        let parts: [&[u8]; 8] = [&[0; VNET], asker_mac, mac, &ARP, &ARP_KIND, &REPLY, mac, wanted];
        answer.iter_mut().zip(parts.into_iter().flatten().chain(asker)).for_each(|(to, from)| *to = *from);
        Some(answer)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const GUEST: [u8; 6] = [2, 0x65, 0x73, 0x63, 0, 1];
    const CLIENT: [u8; 6] = [2, 9, 9, 9, 9, 9];

    fn ipv4_from(mac: [u8; 6], ip: [u8; 4]) -> Vec<u8> {
        [&[0; VNET][..], &GUEST, &mac, &IPV4, &[0x45; 12], &ip, &[10, 77, 0, 10]].concat()
    }

    fn request(wanted: [u8; 4]) -> Vec<u8> {
        let head = [&[0; VNET][..], &[0xff; 6], &GUEST, &ARP, &ARP_KIND, &REQUEST].concat();
        [&head[..], &GUEST, &[10, 77, 0, 10], &[0; 6], &wanted].concat()
    }

    #[test]
    fn clients_that_were_heard_are_known_and_others_are_not() {
        let mut n = Neighbours::default();
        n.learn(&ipv4_from(CLIENT, [10, 77, 1, 1]));
        let answer = n.answer(&request([10, 77, 1, 1])).unwrap();
        assert_eq!(answer[VNET..VNET + 14], [&GUEST[..], &CLIENT, &ARP].concat());
        let told = [&ARP_KIND[..], &REPLY, &CLIENT, &[10, 77, 1, 1], &GUEST, &[10, 77, 0, 10]].concat();
        assert_eq!(answer[VNET + 14..], told);
        assert!(n.answer(&request([10, 77, 1, 2])).is_none());
        assert!(n.answer(&ipv4_from(CLIENT, [10, 77, 1, 1])).is_none());
        n.learn(&ipv4_from([0xff; 6], [10, 77, 1, 2]));
        assert!(n.answer(&request([10, 77, 1, 2])).is_none(), "a group is nobody's address");
        let whole = request([10, 77, 1, 1]);
        (0..whole.len()).for_each(|len| assert!(n.answer(&whole[..len]).is_none()));
        (0..60).for_each(|len| n.learn(&vec![8; len]));
    }

    #[test]
    fn the_table_is_bounded() {
        let mut n = Neighbours::default();
        for i in 0..NEIGHBOURS_MAX as u32 + 5 {
            n.learn(&ipv4_from(CLIENT, i.to_be_bytes()));
        }
        assert_eq!((n.by_ip.len(), n.order.len()), (NEIGHBOURS_MAX, NEIGHBOURS_MAX));
        assert!(n.answer(&request([0, 0, 0, 4])).is_none() && n.answer(&request([0, 0, 0, 5])).is_some());
    }
}
