//! Rules about addresses, hosts and interfaces: `[control]`, `[edge]` and `[[nodes]]`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::SocketAddr;

use escape_fabric::links::check_name;

use super::line_index::PathStep;
use super::replication_file::ReplicationFile;
use super::rules::Rules;

/// Nodes of a cell at most (paper, section 3: nodes that can take over for each other).
const NODES_MAX: usize = 16;
/// Highest node id: the width of a set of suspects.
const NODE_ID_MAX: u16 = 31;
/// Longest host label, bytes (what the orchestrator takes).
const HOST_BYTES_MAX: usize = 128;
/// Highest CPU (CPU_SETSIZE).
const CPU_MAX: u16 = 1_023;

/// What uses a thing that may be used once, by the thing.
type Users<T> = BTreeMap<T, String>;

impl ReplicationFile {
    /// Who is where, and that no two are in the same place.
    pub(super) fn check_places(&self, rules: &mut Rules<'_>) {
        self.check_addresses(rules);
        self.check_metrics(rules);
        self.check_edge(rules);
        self.check_nodes(rules);
    }

    fn check_addresses(&self, rules: &mut Rules<'_>) {
        let control = &self.control;
        let (mut links, mut beats) = (Users::new(), Users::new());
        let path = |key: &str| [PathStep::from("control"), key.into()];
        let good = take_address(&mut links, control.orchestrator, "the orchestrator", &path("orchestrator"), rules);
        take_address(&mut links, control.edge, "the edge", &path("edge"), rules);
        if good || control.orchestrator_heartbeat != control.orchestrator {
            let path = path("orchestrator_heartbeat");
            take_address(&mut beats, control.orchestrator_heartbeat, "the orchestrator", &path, rules);
        }
        let is_ipv4 = control.orchestrator_heartbeat.is_ipv4();
        for (index, node) in self.nodes.iter().enumerate() {
            let path = |key: &str| [PathStep::from("nodes"), index.into(), key.into()];
            let user = format!("node {}", node.id);
            let good = take_address(&mut links, node.control, &user, &path("control"), rules);
            // What is wrong with the one that is meant for both is told once.
            if good || node.heartbeat != node.control {
                take_address(&mut beats, node.heartbeat, &user, &path("heartbeat"), rules);
            }
            rules.require(node.heartbeat.is_ipv4() == is_ipv4, &path("heartbeat"), || {
                format!("{} and the orchestrator's address are not both IPv4 or both IPv6", node.heartbeat)
            });
        }
        rules.require(!control.store.as_os_str().is_empty(), &path("store"), || "must name a file".into());
    }

    /// An address of this kind may be the same on two hosts (127.0.0.1), but not on one.
    fn check_metrics(&self, rules: &mut Rules<'_>) {
        let control = &self.control;
        let mut users =
            Users::from([(control.orchestrator, "the orchestrator".into()), (control.edge, "the edge".into())]);
        for (key, address) in
            [("orchestrator_metrics", control.orchestrator_metrics), ("edge_metrics", control.edge_metrics)]
        {
            if let Some(address) = address {
                take_address(&mut users, address, &format!("control.{key}"), &["control".into(), key.into()], rules);
            }
        }
        let mut hosts: BTreeMap<&str, Users<SocketAddr>> = BTreeMap::new();
        for node in &self.nodes {
            hosts.entry(&node.host).or_default().insert(node.control, format!("node {}", node.id));
        }
        for (index, node) in self.nodes.iter().enumerate() {
            if let Some(address) = node.metrics {
                let users = hosts.entry(&node.host).or_default();
                let user = format!("the metrics of node {}", node.id);
                take_address(users, address, &user, &["nodes".into(), index.into(), "metrics".into()], rules);
            }
        }
    }

    fn check_edge(&self, rules: &mut Rules<'_>) {
        let mut users = Users::new();
        take_interface(&mut users, &self.edge.uplink, "the uplink", &["edge".into(), "uplink".into()], rules);
        for (index, node) in self.nodes.iter().enumerate().filter(|(index, _)| self.is_first_of_its_id(*index)) {
            let path = |key: &str| [PathStep::from("nodes"), index.into(), key.into()];
            take_interface(&mut users, &node.edge_port, &format!("node {}", node.id), &path("edge_port"), rules);
            let user = format!("node {}'s mirror", node.id);
            take_interface(&mut users, &node.edge_mirror, &user, &path("edge_mirror"), rules);
        }
        rules.within(self.edge.learned_expiry_s, 0..=86_400, "edge", "learned_expiry_s");
    }

    fn check_nodes(&self, rules: &mut Rules<'_>) {
        let count = self.nodes.len();
        rules.require((2..=NODES_MAX).contains(&count), &["nodes".into()], || {
            format!("{count} node(s): a cell has 2 to {NODES_MAX}")
        });
        let hosts: BTreeSet<&str> = self.nodes.iter().map(|node| node.host.as_str()).collect();
        rules.require(count < 2 || hosts.len() >= 2, &["nodes".into()], || {
            "all nodes are on one host: no slice could have a standby elsewhere".into()
        });
        let mut taps: BTreeMap<&str, Users<String>> = BTreeMap::new();
        for (index, node) in self.nodes.iter().enumerate() {
            let path = |key: &str| [PathStep::from("nodes"), index.into(), key.into()];
            rules.require(node.id <= NODE_ID_MAX, &path("id"), || format!("{} is more than {NODE_ID_MAX}", node.id));
            let is_first = self.is_first_of_its_id(index);
            rules.require(is_first, &path("id"), || format!("node {} is there twice", node.id));
            // Spaces and the like would make two hosts of one, and the two copies of a slice would fail together.
            rules.require(is_label(&node.host), &path("host"), || {
                format!("must name a host by 1 to {HOST_BYTES_MAX} letters, digits, '.', '-' and '_'")
            });
            rules
                .require(node.cpu.is_none_or(|cpu| cpu <= CPU_MAX), &path("cpu"), || format!("must be 0 to {CPU_MAX}"));
            if is_first {
                let users = taps.entry(&node.host).or_default();
                take_interface(users, &node.tap, &format!("node {}", node.id), &path("tap"), rules);
                take_interface(users, &node.mirror, &format!("node {}'s mirror", node.id), &path("mirror"), rules);
            }
        }
    }

    /// Names of interfaces follow from ids: what is wrong with an id is told once.
    fn is_first_of_its_id(&self, index: usize) -> bool {
        let id = self.nodes.get(index).map(|node| node.id);
        !self.nodes.iter().take(index).any(|node| Some(node.id) == id)
    }
}

/// False: something is wrong with it.
fn take_address(
    users: &mut Users<SocketAddr>,
    address: SocketAddr,
    user: &str,
    path: &[PathStep],
    rules: &mut Rules<'_>,
) -> bool {
    let ip = address.ip();
    let can_be_called = !ip.is_unspecified() && !ip.is_multicast();
    rules.require(address.port() != 0, path, || "needs a port".into());
    rules.require(can_be_called, path, || format!("{ip} is no address that others could call: name one of the host"));
    address.port() != 0 && can_be_called && take(users, address, user, path, rules)
}

fn take_interface(users: &mut Users<String>, name: &str, user: &str, path: &[PathStep], rules: &mut Rules<'_>) {
    match check_name(name) {
        Ok(()) => {
            take(users, name.to_owned(), user, path, rules);
        }
        Err(error) => rules.require(false, path, || error.to_string()),
    }
}

fn take<T: Ord + Display>(
    users: &mut Users<T>,
    thing: T,
    user: &str,
    path: &[PathStep],
    rules: &mut Rules<'_>,
) -> bool {
    let told = thing.to_string();
    let other = users.insert(thing, user.to_owned());
    rules.require(other.is_none(), path, || format!("{told} is used by {} too", other.clone().unwrap_or_default()));
    other.is_none()
}

fn is_label(host: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    (1..=HOST_BYTES_MAX).contains(&host.len()) && host.bytes().all(allowed)
}
