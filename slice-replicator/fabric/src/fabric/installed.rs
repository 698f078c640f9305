use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::elements::{bucket_elements, flow_elements, read_flow};
use super::flow::KEY_LEN;
use super::placement::{Interfaces, Placement, mark_of};
use super::ruleset::{self, BUCKET, MIRROR, OWNER, PAIR};
use super::{Contents, FabricConfig, FabricCounters, FabricError, Flow, GROUPS_MAX, GroupPlace, PORTS_MAX, Port};
use crate::links::{LinkInfo, Links};
use crate::netns::NetNs;
use crate::nft::{NftClient, NftError, Removal, TableOwnership, Transaction};
use crate::{GroupId, NodeId};

/// The packet path writes `pair` too: an entry that appears between its removal and its addition makes a transaction
/// fail; so does one that expires between the look at it and its removal, where it must be looked at
/// ([`Removal::Delete`]). So does, for a moment, a hash table that must grow while the kernel has no memory at hand (its
/// worker then makes it grow; `rhashtable_insert_rehash` in the kernel's `lib/rhashtable.c`). All are tried again, so often.
const FLOW_TRIES: u32 = 8;
/// Pause before another try.
const FLOW_TRY_PAUSE: Duration = Duration::from_millis(1);

/// A port with the names that its interfaces had when it was added.
#[derive(Debug, Clone)]
struct NamedPort {
    port: Port,
    data_name: String,
    mirror_name: String,
}

/// The fabric of one edge, in force from [`Fabric::install`] on. It stays in force when this value is dropped or the
/// process dies, so that flows go on; the next `install` replaces it in one step.
///
/// All changes are transactions: between two packets, wholly or not at all.
#[derive(Debug)]
pub struct Fabric {
    nft: NftClient,
    links: Links,
    config: FabricConfig,
    ownership: TableOwnership,
    uplink_index: u32,
    ports: BTreeMap<NodeId, NamedPort>,
    placement: Placement,
    /// A change has ended without an answer: look before the next one.
    placement_unsure: bool,
}

impl Fabric {
    /// Puts the fabric in force in `namespace`, in which uplink and ports must be; all tables are empty at first.
    pub fn install(namespace: &NetNs, config: FabricConfig) -> Result<Self, FabricError> {
        Self::install_with(namespace, config, Contents::default())
    }

    /// Puts the fabric in force with these contents, in place of an earlier one of the same table name: no packet sees
    /// anything between the two.
    pub fn install_with(namespace: &NetNs, config: FabricConfig, contents: Contents<'_>) -> Result<Self, FabricError> {
        config.check()?;
        let mut nft = NftClient::open_in(namespace)?;
        if let Some(removal) = config.removal {
            nft.set_removal(removal);
        }
        let mut links = Links::open_in(namespace)?;
        let uplink_index = links.index_of(&config.uplink)?;
        let ownership = match nft.removal() {
            Removal::Destroy => TableOwnership::ExclusiveAndLasting,
            Removal::Delete => TableOwnership::Shared,
        };
        let mut fabric = Self {
            nft,
            links,
            config,
            ownership,
            uplink_index,
            ports: BTreeMap::new(),
            placement: Placement::default(),
            placement_unsure: false,
        };
        fabric.resolve_ports()?;
        match fabric.install_once(contents) {
            // Kernels before 6.9 have no tables that are owned and lasting.
            Err(FabricError::Nft(error)) if matches!(error.refusal(), Some(libc::EOPNOTSUPP | libc::EINVAL)) => {
                fabric.ownership = TableOwnership::Shared;
                fabric.install_once(contents)?;
            }
            other => other?,
        }
        Ok(fabric)
    }

    fn install_once(&mut self, contents: Contents<'_>) -> Result<(), FabricError> {
        let changes = self.resolve(contents.places)?;
        let buckets = bucket_elements(contents.buckets)?;
        let flows = flow_elements(contents.flows, &self.config.tcp_ports, self.config.place_by)?;
        let mut transaction = self.nft.begin(&self.config.table);
        ruleset::install(&self.config, self.ownership, &mut transaction);
        for named in self.ports.values() {
            named.add_to(&self.config, self.uplink_index, &mut transaction);
        }
        transaction.add_elements(BUCKET, &buckets);
        transaction.add_elements(PAIR, &flows);
        Placement::default().plan(&changes, true, &mut transaction);
        self.nft.commit(transaction)?;
        self.placement = Placement::default();
        self.placement.record(&changes);
        Ok(())
    }

    /// Flows of a fabric that is in force already, whoever installed it; for [`Contents::flows`] of the next one.
    pub fn flows_in_force(namespace: &NetNs, table: &str) -> Result<Vec<(Flow, GroupId)>, FabricError> {
        read_flows(&mut NftClient::open_in(namespace)?, table)
    }

    /// Takes the fabric out of force: its interfaces then belong to the kernel's own stack.
    pub fn uninstall(mut self) -> Result<(), FabricError> {
        let mut transaction = self.nft.begin(&self.config.table);
        transaction.destroy_table();
        self.nft.commit(transaction)?;
        Ok(())
    }

    /// Whether other programs can change the table (kernels before 6.9), and remove it by a firewall reload.
    pub const fn ownership(&self) -> TableOwnership {
        self.ownership
    }

    /// Moves groups: owner, permission to send and mirror of all of them in **one** transaction. Groups that are not
    /// named stay as they are. Returns the time that the kernel took.
    ///
    /// # Errors
    /// Nothing is changed if a node has no port, or its interface is gone.
    pub fn apply(&mut self, places: &[GroupPlace]) -> Result<Duration, FabricError> {
        self.apply_with(places, &[])
    }

    /// The same, and flows are told their groups in the same transaction, as by [`Self::set_flows`]: a flow whose group is another
    /// one from now on has no moment in between.
    ///
    /// # Errors
    /// As of both; nothing is changed then.
    pub fn apply_with(&mut self, places: &[GroupPlace], flows: &[(Flow, GroupId)]) -> Result<Duration, FabricError> {
        self.look_if_unsure()?;
        let changes = self.resolve(places)?;
        self.check_present(places)?;
        let new = changes.iter().filter(|(mark, _)| !self.placement.contains(*mark)).count();
        if self.placement.len().saturating_add(new) > GROUPS_MAX as usize {
            return Err(FabricError::TooManyGroups);
        }
        let elements = flow_elements(flows, &self.config.tcp_ports, self.config.place_by)?;
        let keys: Vec<[u8; KEY_LEN]> = elements.iter().map(|(key, _)| *key).collect();
        let mut tries = FLOW_TRIES;
        loop {
            tries -= 1;
            let known = self.nft.removable(&self.config.table, PAIR, &keys)?;
            let bind = |transaction: &mut Transaction| {
                if !elements.is_empty() {
                    transaction.remove_elements(PAIR, &known);
                    transaction.add_elements(PAIR, &elements);
                }
            };
            match self.change_places(&changes, bind) {
                // A packet of a flow was learned from at this moment.
                Err(FabricError::Nft(error)) if tries > 0 && !flows.is_empty() && is_momentary(&error) => {
                    std::thread::sleep(FLOW_TRY_PAUSE);
                }
                other => return other,
            }
        }
    }

    /// Adds a node's port: from now on frames of its interfaces are judged, and groups can be placed there.
    pub fn add_port(&mut self, port: Port) -> Result<(), FabricError> {
        let present = self.links.list()?;
        let named = self.name_port(port, &present)?;
        let mut transaction = self.nft.begin(&self.config.table);
        named.add_to(&self.config, self.uplink_index, &mut transaction);
        self.nft.commit(transaction)?;
        self.ports.insert(port.node, named);
        Ok(())
    }

    /// Removes a node's port; its groups are without owner, or mirror, from the same moment on.
    pub fn remove_port(&mut self, node: NodeId) -> Result<(), FabricError> {
        if !self.ports.contains_key(&node) {
            return Err(FabricError::UnknownPort { node });
        }
        self.remove_ports(&[node])
    }

    /// Takes out the ports of nodes one of whose interfaces is gone, in one transaction, so that no entry points
    /// nowhere; returns these nodes. Call it on news of [`crate::link_watch::LinkWatch`].
    pub fn remove_vanished_ports(&mut self) -> Result<Vec<NodeId>, FabricError> {
        let present = self.links.list()?;
        if !is_present(&present, self.uplink_index, &self.config.uplink) {
            let name = self.config.uplink.clone();
            return Err(FabricError::UplinkVanished { name, index: self.uplink_index });
        }
        let vanished = self.ports.values().filter(|named| named.missing(&present).is_some());
        let nodes: Vec<NodeId> = vanished.map(|named| named.port.node).collect();
        if !nodes.is_empty() {
            self.remove_ports(&nodes)?;
        }
        Ok(nodes)
    }

    /// Sends new flows of each bucket to a group. Other buckets stay as they are.
    pub fn set_buckets(&mut self, buckets: &[(u16, GroupId)]) -> Result<Duration, FabricError> {
        let elements = bucket_elements(buckets)?;
        let keys: Vec<[u8; 4]> = elements.iter().map(|(bucket, _)| *bucket).collect();
        Ok(self.replace(BUCKET, &keys, &elements)?)
    }

    /// Refuses new flows of these buckets.
    pub fn clear_buckets(&mut self, buckets: &[u16]) -> Result<Duration, FabricError> {
        let keys: Vec<[u8; 4]> = buckets.iter().map(|bucket| u32::from(*bucket).to_ne_bytes()).collect();
        Ok(self.replace(BUCKET, &keys, &[])?)
    }

    /// Tells which group flows belong to, in one transaction (10,000 flows keep the calling thread for some 20 ms); entries learned from SYNs are confirmed by it, they do not
    /// expire any more. If a flow is named twice, the last counts. Nothing is changed if one is of no protected port.
    pub fn set_flows(&mut self, flows: &[(Flow, GroupId)]) -> Result<Duration, FabricError> {
        let elements = flow_elements(flows, &self.config.tcp_ports, self.config.place_by)?;
        let keys: Vec<[u8; KEY_LEN]> = elements.iter().map(|(key, _)| *key).collect();
        match self.replace_flows(&keys, &elements) {
            Err(error) if error.refusal() == Some(libc::ENFILE) => Err(FabricError::FlowsFull { flows: flows.len() }),
            other => Ok(other?),
        }
    }

    /// Forgets flows (closed ones); unknown ones are passed over.
    pub fn del_flows(&mut self, flows: &[Flow]) -> Result<Duration, FabricError> {
        let keys: Vec<[u8; KEY_LEN]> = flows.iter().map(|flow| flow.steered(self.config.place_by).key()).collect();
        Ok(self.replace_flows(&keys, &[])?)
    }

    /// [`Self::replace`] in a map that the packet path writes too.
    fn replace_flows(
        &mut self,
        keys: &[[u8; KEY_LEN]],
        elements: &[([u8; KEY_LEN], [u8; 4])],
    ) -> Result<Duration, NftError> {
        let mut tries = FLOW_TRIES;
        loop {
            tries -= 1;
            match self.replace(PAIR, keys, elements) {
                Err(error) if tries > 0 && is_momentary(&error) => std::thread::sleep(FLOW_TRY_PAUSE),
                other => return other,
            }
        }
    }

    /// Removes what a map has of these keys and adds these elements, in one transaction.
    fn replace<K: AsRef<[u8]> + Clone + Ord>(
        &mut self,
        map: &str,
        keys: &[K],
        elements: &[(K, [u8; 4])],
    ) -> Result<Duration, NftError> {
        let known = self.nft.removable(&self.config.table, map, keys)?;
        let mut transaction = self.nft.begin(&self.config.table);
        transaction.remove_elements(map, &known);
        transaction.add_elements(map, elements);
        self.nft.commit(transaction)
    }

    /// All known flows, sorted. Those that come or go while the list is read may be missing.
    pub fn flows(&mut self) -> Result<Vec<(Flow, GroupId)>, FabricError> {
        read_flows(&mut self.nft, &self.config.table)
    }

    /// What was counted since the fabric was installed (a node's drops: since its port was added).
    pub fn counters(&mut self) -> Result<FabricCounters, FabricError> {
        let counted = self.nft.counters(&self.config.table)?;
        Ok(FabricCounters::read(&counted, self.ports.keys().copied()))
    }

    /// Frames of a node that were dropped since its port was added.
    pub fn drops_of(&mut self, node: NodeId) -> Result<u64, FabricError> {
        self.counters()?.dropped.get(&node).copied().ok_or(FabricError::UnknownPort { node })
    }

    /// Nodes with a port.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.ports.keys().copied()
    }

    fn resolve_ports(&mut self) -> Result<(), FabricError> {
        let present = self.links.list()?;
        for port in self.config.ports.clone() {
            let named = self.name_port(port, &present)?;
            self.ports.insert(port.node, named);
        }
        Ok(())
    }

    /// A port with the names of its interfaces; both must exist and be nobody else's.
    fn name_port(&self, port: Port, present: &[LinkInfo]) -> Result<NamedPort, FabricError> {
        let mut taken: BTreeSet<u32> = self.ports.values().flat_map(|p| [p.port.data, p.port.mirror]).collect();
        taken.insert(self.uplink_index);
        let new = taken.insert(port.data) && taken.insert(port.mirror);
        if !new || self.ports.contains_key(&port.node) {
            return Err(FabricError::DuplicatePort { node: port.node });
        }
        if self.ports.len() >= PORTS_MAX {
            return Err(FabricError::TooManyPorts);
        }
        let name_of = |index| {
            let link = present.iter().find(|link| link.index == index);
            let gone = || FabricError::PortVanished { node: port.node, name: "?".into(), index };
            link.map(|link| link.name.clone()).ok_or_else(gone)
        };
        Ok(NamedPort { port, data_name: name_of(port.data)?, mirror_name: name_of(port.mirror)? })
    }

    /// Places as marks and interfaces.
    fn resolve(&self, places: &[GroupPlace]) -> Result<Vec<(u32, Interfaces)>, FabricError> {
        let mut seen = BTreeSet::new();
        let resolve_one = |place: &GroupPlace| {
            let group = place.group;
            if !seen.insert(group) {
                return Err(FabricError::DuplicateGroup { group });
            }
            let port = |node| match self.ports.get(&node) {
                Some(named) => Ok(named.port),
                None => Err(FabricError::NoSuchPort { group, node }),
            };
            let owner = place.owner.map(port).transpose()?.map(|port| port.data);
            let mirror = place.mirror.map(port).transpose()?.map(|port| port.mirror);
            Ok((mark_of(group)?, Interfaces { owner, mirror }))
        };
        places.iter().map(resolve_one).collect()
    }

    /// Refuses places on nodes whose interfaces are gone.
    fn check_present(&mut self, places: &[GroupPlace]) -> Result<(), FabricError> {
        let nodes: BTreeSet<NodeId> = places.iter().flat_map(|place| [place.owner, place.mirror]).flatten().collect();
        let present = self.links.list()?;
        for named in nodes.iter().filter_map(|node| self.ports.get(node)) {
            if let Some((name, index)) = named.missing(&present) {
                return Err(FabricError::PortVanished { node: named.port.node, name: name.to_owned(), index });
            }
        }
        Ok(())
    }

    fn remove_ports(&mut self, nodes: &[NodeId]) -> Result<(), FabricError> {
        self.look_if_unsure()?;
        let ports = nodes.iter().filter_map(|node| self.ports.get(node));
        let gone: BTreeSet<u32> = ports.flat_map(|named| [named.port.data, named.port.mirror]).collect();
        let changes = self.placement.without_interfaces(&gone);
        let chains = |transaction: &mut Transaction| {
            nodes.iter().for_each(|node| ruleset::remove_port(*node, transaction));
        };
        self.change_places(&changes, chains)?;
        self.ports.retain(|node, _| !nodes.contains(node));
        Ok(())
    }

    /// Commits changes of places, with what `more` adds, and remembers them.
    fn change_places(
        &mut self,
        changes: &[(u32, Interfaces)],
        more: impl FnOnce(&mut Transaction),
    ) -> Result<Duration, FabricError> {
        let mut transaction = self.nft.begin(&self.config.table);
        self.placement.plan(changes, self.config.revoke, &mut transaction);
        more(&mut transaction);
        let result = self.nft.commit(transaction);
        match &result {
            Ok(_) => self.placement.record(changes),
            Err(error) => self.placement_unsure |= error.outcome_unknown(),
        }
        Ok(result?)
    }

    fn look_if_unsure(&mut self) -> Result<(), FabricError> {
        if self.placement_unsure {
            let owners = self.nft.elements(&self.config.table, OWNER)?;
            let mirrors = self.nft.elements(&self.config.table, MIRROR)?;
            self.placement = Placement::from_elements(&owners, &mirrors);
            self.placement_unsure = false;
        }
        Ok(())
    }
}

impl NamedPort {
    fn add_to(&self, config: &FabricConfig, uplink_index: u32, transaction: &mut Transaction) {
        let devices = [self.data_name.as_str(), self.mirror_name.as_str()];
        ruleset::add_port(config, uplink_index, self.port.node, &devices, transaction);
    }

    /// The first of its interfaces that is not there any more, or whose index is another's now.
    fn missing(&self, present: &[LinkInfo]) -> Option<(&str, u32)> {
        let interfaces = [(self.data_name.as_str(), self.port.data), (self.mirror_name.as_str(), self.port.mirror)];
        interfaces.into_iter().find(|(name, index)| !is_present(present, *index, name))
    }
}

fn is_present(present: &[LinkInfo], index: u32, name: &str) -> bool {
    present.iter().any(|link| link.index == index && link.name == name)
}

fn is_momentary(error: &NftError) -> bool {
    matches!(error.refusal(), Some(libc::EEXIST | libc::EBUSY | libc::ENOMEM | libc::ENOENT))
}

fn read_flows(nft: &mut NftClient, table: &str) -> Result<Vec<(Flow, GroupId)>, FabricError> {
    let mut flows: Vec<_> = nft.elements(table, PAIR)?.iter().filter_map(read_flow).collect();
    flows.sort_unstable();
    Ok(flows)
}
