//! Single cut links: frames of one part of the cell that do not reach another, while all else passes.

use super::error::CellSetupError;
use super::network::{ORCHESTRATOR_IP, ORCHESTRATOR_PORT, control_port, node_ip};
use crate::drill::{Cut, Party};
use escape_fabric::netns::NetNs;
use escape_fabric::nft::{Expression, NftClient, PayloadBase, Register, TableOwnership, Transaction, Verdict};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

const TABLE: &str = "cuts";
const ADDRESS: Register = Register::word(0);
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];

/// The filter of the control bridge's ports: a table that exists while something is cut.
#[derive(Debug)]
pub(super) struct Cuts {
    client: NftClient,
    /// Whose frames are lost to whom.
    lost: BTreeSet<(Party, Party)>,
}

impl Cuts {
    /// Nothing is cut.
    pub(super) fn open(control: &NetNs) -> Result<Self, CellSetupError> {
        Ok(Self { client: NftClient::open_in(control)?, lost: BTreeSet::new() })
    }

    /// Cuts a link, or mends it.
    pub(super) fn set(&mut self, cut: Cut, lost: bool) -> Result<(), CellSetupError> {
        let ways = [Some((cut.from, cut.to)), cut.both.then_some((cut.to, cut.from))];
        for way in ways.into_iter().flatten() {
            if lost {
                self.lost.insert(way);
            } else {
                self.lost.remove(&way);
            }
        }
        let mut transaction = self.client.begin(TABLE);
        transaction.destroy_table();
        if !self.lost.is_empty() {
            transaction.add_table(TableOwnership::Shared);
            let senders: BTreeSet<Party> = self.lost.iter().map(|(from, _)| *from).collect();
            senders.into_iter().for_each(|from| self.add_sender(from, &mut transaction));
        }
        self.client.commit(transaction)?;
        Ok(())
    }

    /// Everything that comes from `from` passes but what goes to those it is cut off from.
    fn add_sender(&self, from: Party, transaction: &mut Transaction) {
        let (port, _) = end(from);
        let load = |base, offset, len| Expression::LoadPayload { base, offset, len, into: ADDRESS };
        transaction.add_ingress_chain(&port, &[&port]);
        for (_, to) in self.lost.iter().filter(|(sender, _)| *sender == from) {
            let (_, address) = end(*to);
            transaction.add_rule(
                &port,
                &[
                    load(PayloadBase::Ethernet, 12, 2),
                    Expression::Equals(ADDRESS, &ETHERTYPE_IPV4),
                    load(PayloadBase::Network, 16, 4),
                    Expression::Equals(ADDRESS, &address.octets()),
                    Expression::Decide(Verdict::Drop),
                ],
            );
        }
        transaction.add_rule(&port, &[Expression::Decide(Verdict::Accept)]);
    }
}

/// Port of the bridge, and address behind it.
fn end(party: Party) -> (String, Ipv4Addr) {
    match party {
        Party::Node(node) => (control_port(node), node_ip(node)),
        Party::Orchestrator => (ORCHESTRATOR_PORT.into(), ORCHESTRATOR_IP),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::network::CellNetwork;
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::{AsFd, AsRawFd};
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::{Duration, Instant};

    fn socket(namespace: &NetNs, address: Ipv4Addr) -> UdpSocket {
        let fd = namespace.as_fd().as_raw_fd();
        let bind = move || {
            escape_fabric::netns::enter_fd(fd).unwrap();
            let socket = UdpSocket::bind((address, 7)).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            socket
        };
        std::thread::spawn(bind).join().unwrap()
    }

    /// Whether a datagram passes, tried until the links have come up. Late ones of earlier tries do not count.
    fn passes(from: &UdpSocket, to: &UdpSocket, limit: Duration) -> bool {
        static LATEST: AtomicU32 = AtomicU32::new(0);
        let begun = Instant::now();
        while begun.elapsed() < limit {
            let number = LATEST.fetch_add(1, Ordering::Relaxed).to_be_bytes();
            from.send_to(&number, to.local_addr().unwrap()).unwrap();
            let mut buffer = [0; 4];
            while to.recv_from(&mut buffer).is_ok() {
                if buffer == number {
                    return true;
                }
            }
        }
        false
    }

    #[test]
    fn a_cut_loses_one_direction_and_nothing_else() {
        let mut network = match CellNetwork::new(2, 1) {
            Ok(network) => network,
            Err(error) => return println!("SKIPPED: no network namespaces: {error}"),
        };
        let a = socket(&network.nodes[0].namespace, node_ip(0));
        let b = socket(&network.nodes[1].namespace, node_ip(1));
        let store = socket(&network.orchestrator, ORCHESTRATOR_IP);
        let (long, short) = (Duration::from_secs(5), Duration::from_millis(300));
        for (from, to) in [(&a, &b), (&b, &a), (&a, &store), (&store, &a)] {
            assert!(passes(from, to, long));
        }
        let one_way = Cut { from: Party::Node(0), to: Party::Node(1), both: false };
        network.set_cut(one_way, true).unwrap();
        assert!(!passes(&a, &b, short));
        assert!(passes(&b, &a, short) && passes(&a, &store, short));
        let both = Cut { from: Party::Node(0), to: Party::Orchestrator, both: true };
        network.set_cut(both, true).unwrap();
        assert!(!passes(&a, &b, short) && !passes(&a, &store, short) && !passes(&store, &a, short));
        assert!(passes(&b, &store, short));
        network.set_cut(one_way, false).unwrap();
        network.set_cut(both, false).unwrap();
        for (from, to) in [(&a, &b), (&a, &store), (&store, &a)] {
            assert!(passes(from, to, short));
        }
        assert!(network.set_cut(Cut { from: Party::Node(9), ..one_way }, true).is_err());
    }
}
