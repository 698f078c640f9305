use std::net::{Ipv4Addr, SocketAddrV4};

/// Number of placement buckets.
pub const BUCKETS: u16 = 4_096;

/// Length of a flow's key: one register for the address and one for each port.
pub(super) const KEY_LEN: usize = 12;

/// `JHASH_INITVAL` of the kernel's `include/linux/jhash.h`.
const JHASH_INITVAL: u32 = 0xdead_beef;

/// A client's connection to the service, whose address all flows share. Linux reuses one source port for two destination
/// ports, so all three fields are needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Flow {
    /// Address and port of the client.
    pub client: SocketAddrV4,
    /// Port of the service.
    pub service_port: u16,
}

impl Flow {
    /// The flow between these ends.
    pub const fn new(client: Ipv4Addr, client_port: u16, service_port: u16) -> Self {
        Self { client: SocketAddrV4::new(client, client_port), service_port }
    }

    /// The flow as it is steered: itself, or for all of its client's flows the address with ports 0.
    #[must_use]
    pub const fn steered(&self, by: PlaceBy) -> Self {
        match by {
            PlaceBy::Flow => *self,
            PlaceBy::Client => Self::new(*self.client.ip(), 0, 0),
        }
    }

    /// The key as nf_tables lays it in registers: network order, each port alone in a register, zero-padded.
    pub(super) fn key(&self) -> [u8; KEY_LEN] {
        let [a, b, c, d] = self.client.ip().octets();
        let [client_high, client_low] = self.client.port().to_be_bytes();
        let [service_high, service_low] = self.service_port.to_be_bytes();
        [a, b, c, d, client_high, client_low, 0, 0, service_high, service_low, 0, 0]
    }

    pub(super) fn from_key(key: &[u8]) -> Option<Self> {
        let [a, b, c, d, client_high, client_low, _, _, service_high, service_low, _, _]: [u8; KEY_LEN] =
            key.try_into().ok()?;
        Some(Self::new(
            Ipv4Addr::new(a, b, c, d),
            u16::from_be_bytes([client_high, client_low]),
            u16::from_be_bytes([service_high, service_low]),
        ))
    }
}

/// By what flows are placed and steered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PlaceBy {
    /// Every flow for itself.
    #[default]
    Flow,
    /// The client's address: its flows come together, where they share a slice, and new ones go where the others are.
    Client,
}

impl PlaceBy {
    /// Bytes of a flow's key that choose its bucket.
    pub(super) const fn key_len(self) -> usize {
        match self {
            Self::Flow => KEY_LEN,
            Self::Client => 4,
        }
    }
}

/// The bucket, `0..4096`, that the kernel's placement rule chooses for a new flow: `jhash` over the key's three registers, or
/// over the first alone, scaled by `reciprocal_scale` (`net/netfilter/nft_hash.c`).
pub fn bucket_of(flow: &Flow, seed: u32, by: PlaceBy) -> u16 {
    let [a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3] = flow.steered(by).key();
    // jhash adds the words that there are to a common start; those that there are not are zero here.
    let start = JHASH_INITVAL.wrapping_add(by.key_len() as u32).wrapping_add(seed);
    let a = start.wrapping_add(u32::from_le_bytes([a0, a1, a2, a3]));
    let b = start.wrapping_add(u32::from_le_bytes([b0, b1, b2, b3]));
    let c = start.wrapping_add(u32::from_le_bytes([c0, c1, c2, c3]));
    let scaled = (u64::from(jhash_final(a, b, c)) * u64::from(BUCKETS)) >> 32;
    // 32 bits times 4096, shifted by 32: less than 4096.
    scaled as u16
}

/// `__jhash_final` of the kernel's `include/linux/jhash.h` (Bob Jenkins' lookup3).
fn jhash_final(mut a: u32, mut b: u32, mut c: u32) -> u32 {
    c = (c ^ b).wrapping_sub(b.rotate_left(14));
    a = (a ^ c).wrapping_sub(c.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    c = (c ^ b).wrapping_sub(b.rotate_left(16));
    a = (a ^ c).wrapping_sub(c.rotate_left(4));
    b = (b ^ a).wrapping_sub(a.rotate_left(14));
    (c ^ b).wrapping_sub(b.rotate_left(24))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back() {
        let flow = Flow::new(Ipv4Addr::new(10, 9, 8, 7), 0xabcd, 8080);
        assert_eq!(flow.key(), [10, 9, 8, 7, 0xab, 0xcd, 0, 0, 0x1f, 0x90, 0, 0]);
        assert_eq!(Flow::from_key(&flow.key()).unwrap(), flow);
        assert_eq!(Flow::from_key(&[0; 11]), None);
    }

    #[test]
    fn buckets_are_used_evenly() {
        let mut used = vec![0u32; usize::from(BUCKETS)];
        for port in 0..=u16::MAX {
            let flow = Flow::new(Ipv4Addr::new(10, 0, 0, 1), port, 80);
            used[usize::from(bucket_of(&flow, 0x5eed, PlaceBy::Flow))] += 1;
        }
        // 16 each on average; a hash that ignores a field fails by far.
        assert!(
            used.iter().all(|count| (1..=48).contains(count)),
            "{:?} to {:?}",
            used.iter().min(),
            used.iter().max()
        );
    }

    #[test]
    fn connections_of_one_client_are_placed_together() {
        let bucket =
            |client: u8, port| bucket_of(&Flow::new(Ipv4Addr::new(10, 0, 0, client), port, 80), 7, PlaceBy::Client);
        assert!((1..1000).all(|port| bucket(1, port) == bucket(1, 0)));
        let used: std::collections::BTreeSet<_> = (0..=255).map(|client| bucket(client, 5)).collect();
        assert!(used.len() > 200, "{}", used.len());
    }
}
