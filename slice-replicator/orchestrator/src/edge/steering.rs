//! The fabric as the edge's machine commands it.

use super::config::EdgeProcessConfig;
use super::deposed_watch::{DeposedWatch, SentFrames};
use super::flow_backlog::{FlowBacklog, FlowChange, fabric_flow};
use super::interfaces::Interfaces;
use crate::error::ProcessError;
use escape_engine::Mutant;
use escape_engine::edge::GroupSteering;
use escape_fabric::fabric::{Contents, Fabric, FabricConfig, FabricCounters, FabricError, Flow, GroupPlace, PlaceBy};
use escape_proto::{BucketTable, FlowEntry, GroupId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// An edge that finds a former one's tables in force leaves them so until the owners have had this long to say their
/// groups: then no flow is without owner in between.
const TAKE_OVER_AFTER: Duration = Duration::from_millis(500);

/// Buckets written per turn: all 4,096 keep the kernel for 9 ms, and a flip that comes meanwhile waits as long.
const BUCKETS_PER_TURN_MAX: usize = 256;

/// Outcome of one steering.
#[derive(Debug, Default)]
pub(super) struct Steered {
    /// In force.
    pub(super) done: Vec<GroupSteering>,
    /// Of these, the ones with another owner than before.
    pub(super) flipped: Vec<GroupSteering>,
    /// Not in force: to be tried again.
    pub(super) failed: Vec<GroupSteering>,
    /// Time that the kernel took.
    pub(super) kernel: Duration,
}

/// Fabric, interfaces, and what is to be in force.
#[derive(Debug)]
pub(super) struct Steering {
    interfaces: Interfaces,
    template: FabricConfig,
    /// `None`: a former edge's tables are still in force, until `take_over_at`.
    fabric: Option<Fabric>,
    take_over_at: Instant,
    inherited: Vec<(Flow, escape_fabric::GroupId)>,
    /// Groups that were to be steered before the take-over; they are in the new tables from the first packet on.
    early: BTreeMap<GroupId, GroupSteering>,
    in_force: BTreeMap<GroupId, GroupSteering>,
    /// By bucket, as written.
    buckets: Vec<Option<GroupId>>,
    /// The table that is to be in force, if it is not yet in every bucket.
    buckets_wanted: Option<BucketTable>,
    backlog: FlowBacklog,
    deposed: DeposedWatch,
    read_deposed: bool,
}

impl Steering {
    pub(super) fn start(config: &EdgeProcessConfig, now: Instant) -> Result<Self, ProcessError> {
        let mut interfaces = Interfaces::open(config)?;
        let mut template = FabricConfig::new(&config.uplink, config.service_ip, config.service_mac, &config.tcp_ports);
        template.hash_seed = config.secrets.placement_seed;
        template.place_by = if config.slice_per_client { PlaceBy::Client } else { PlaceBy::Flow };
        template.learned_expiry = (config.learned_expiry_s > 0).then(|| Duration::from_secs(config.learned_expiry_s));
        template.revoke = config.broken.as_deref() != Some(Mutant::OldEpoch.name());
        let former = Fabric::flows_in_force(interfaces.namespace(), &template.table).ok();
        let fabric = match &former {
            Some(flows) => {
                tracing::info!(flows = flows.len(), "tables of a former edge are in force; taking over soon");
                None
            }
            None => {
                let ports = interfaces.present()?;
                Some(Fabric::install(interfaces.namespace(), FabricConfig { ports, ..template.clone() })?)
            }
        };
        Ok(Self {
            interfaces,
            template,
            fabric,
            take_over_at: now + TAKE_OVER_AFTER,
            inherited: former.unwrap_or_default(),
            early: BTreeMap::new(),
            in_force: BTreeMap::new(),
            buckets: vec![None; BucketTable::BUCKETS],
            buckets_wanted: None,
            backlog: FlowBacklog::default(),
            deposed: DeposedWatch::default(),
            read_deposed: false,
        })
    }

    pub(super) const fn interfaces(&mut self) -> &mut Interfaces {
        &mut self.interfaces
    }

    pub(super) const fn backlog(&self) -> &FlowBacklog {
        &self.backlog
    }

    pub(super) const fn backlog_mut(&mut self) -> &mut FlowBacklog {
        &mut self.backlog
    }

    /// Steers groups in one transaction. Groups whose owner has no port here fail alone; a missing standby costs them
    /// their mirror until its port comes. `flows` are bound in the same transaction, those of failed groups are not.
    pub(super) fn steer(&mut self, groups: Vec<GroupSteering>, flows: &[FlowEntry]) -> Steered {
        let Some(fabric) = &mut self.fabric else {
            self.early.extend(groups.iter().map(|group| (group.group, *group)));
            return Steered { failed: groups, ..Steered::default() };
        };
        let nodes: BTreeSet<u16> = fabric.nodes().collect();
        let (possible, failed): (Vec<_>, Vec<_>) =
            groups.into_iter().partition(|group| nodes.contains(&group.owner.node.0));
        let owners = possible.iter().map(|group| group.owner.node.0);
        if self.deposed.returns(owners.clone()) {
            match sent_frames(fabric) {
                Ok(sent) => self.deposed.settle(owners, &sent),
                Err(error) => tracing::warn!("counters: {error}"),
            }
        }
        let places: Vec<_> = possible.iter().map(|group| place(group, &nodes)).collect();
        let is_possible = |flow: &&FlowEntry| possible.iter().any(|group| group.group == flow.group);
        let flows = flows.iter().filter(is_possible).map(|f| (fabric_flow(&f.flow), f.group.0));
        match fabric.apply_with(&places, &flows.collect::<Vec<_>>()) {
            Ok(kernel) => self.now_in_force(possible, failed, kernel),
            Err(error) => {
                tracing::warn!("steering of {} groups: {error}", places.len());
                Steered { failed: [possible, failed].concat(), ..Steered::default() }
            }
        }
    }

    fn now_in_force(&mut self, done: Vec<GroupSteering>, failed: Vec<GroupSteering>, kernel: Duration) -> Steered {
        let mut flipped = Vec::new();
        for group in &done {
            let before = self.in_force.insert(group.group, *group);
            if before.is_none_or(|before| before.owner != group.owner) {
                flipped.push(*group);
            }
        }
        if !flipped.is_empty() {
            let owners = self.in_force.values().map(|group| group.owner.node.0).collect();
            self.read_deposed |= self.deposed.owners(owners);
        }
        Steered { done, flipped, failed, kernel }
    }

    /// Sends new flows where the table says, soon.
    pub(super) fn place(&mut self, table: BucketTable) {
        self.buckets_wanted = Some(table);
    }

    /// Writes a piece of what differs between the table wanted and the one in force; tried again if it fails. True: there
    /// is more.
    fn write_buckets(&mut self) -> Result<bool, FabricError> {
        let (Some(fabric), Some(table)) = (&mut self.fabric, &self.buckets_wanted) else { return Ok(false) };
        let changed = all_buckets().filter(|bucket| table.group(*bucket) != written(&self.buckets, *bucket));
        let piece: Vec<u16> = changed.take(BUCKETS_PER_TURN_MAX).collect();
        let (set, clear): (Vec<u16>, Vec<u16>) = piece.iter().partition(|bucket| table.group(**bucket).is_some());
        let set: Vec<_> = set.iter().filter_map(|bucket| Some((*bucket, table.group(*bucket)?.0))).collect();
        if !set.is_empty() {
            fabric.set_buckets(&set)?;
        }
        if !clear.is_empty() {
            fabric.clear_buckets(&clear)?;
        }
        for bucket in &piece {
            if let Some(place) = self.buckets.get_mut(usize::from(*bucket)) {
                *place = table.group(*bucket);
            }
        }
        let more = piece.len() == BUCKETS_PER_TURN_MAX;
        if !more {
            self.buckets_wanted = None;
        }
        Ok(more)
    }

    /// Work that can wait for the flips and answers of a turn: a piece of the flow backlog, counts, the take-over. True:
    /// there is more of it.
    pub(super) fn work(&mut self, now: Instant) -> Result<bool, ProcessError> {
        if self.fabric.is_none() && now >= self.take_over_at {
            self.take_over()?;
        }
        let more_buckets = self.write_buckets()?;
        let Some(fabric) = &mut self.fabric else { return Ok(false) };
        if self.read_deposed {
            self.deposed.read(&sent_frames(fabric)?);
            self.read_deposed = false;
        }
        let result = match self.backlog.next() {
            None => return Ok(more_buckets),
            Some(FlowChange::Bind(flows)) => fabric.set_flows(&flows),
            Some(FlowChange::Unbind(flows)) => fabric.del_flows(&flows),
        };
        if let Err(error) = result {
            // The owners tell their flows again after a plug; until then these follow their buckets.
            tracing::warn!("flows: {error}");
        }
        Ok(more_buckets || self.backlog.len() > 0)
    }

    /// Interfaces came or went: ports follow, and the groups of those that came are put in force again.
    pub(super) fn interfaces_changed(&mut self) -> Result<(), ProcessError> {
        let Some(fabric) = &mut self.fabric else { return Ok(()) };
        let changed = self.interfaces.reconcile(fabric)?;
        if changed.is_empty() {
            return Ok(());
        }
        tracing::info!(nodes = ?changed, "ports came or went");
        let touched = |group: &&GroupSteering| {
            changed.contains(&group.owner.node.0) || group.mirror.is_some_and(|node| changed.contains(&node.node.0))
        };
        let nodes: BTreeSet<u16> = fabric.nodes().collect();
        let places: Vec<_> = self.in_force.values().filter(touched).map(|group| place(group, &nodes)).collect();
        if !places.is_empty() {
            fabric.apply(&places)?;
        }
        Ok(())
    }

    /// The fabric's counters, if it is this edge's already.
    pub(super) fn counters(&mut self) -> Result<Option<FabricCounters>, FabricError> {
        self.fabric.as_mut().map(Fabric::counters).transpose()
    }

    pub(super) const fn deposed(&self) -> &DeposedWatch {
        &self.deposed
    }

    /// Groups per owner.
    pub(super) fn groups_of(&self, node: u16) -> usize {
        self.in_force.values().filter(|group| group.owner.node.0 == node).count()
    }

    /// Replaces a former edge's tables in one step, with its flows and the groups that were to be steered meanwhile. The
    /// machine tries those again at its next tick, and is told then.
    fn take_over(&mut self) -> Result<(), ProcessError> {
        let ports = self.interfaces.present()?;
        let nodes = ports.iter().map(|port| port.node).collect();
        let places: Vec<_> = self.early.values().map(|group| place(group, &nodes)).collect();
        let contents = Contents { places: &places, buckets: &[], flows: &self.inherited };
        let config = FabricConfig { ports, ..self.template.clone() };
        self.fabric = Some(Fabric::install_with(self.interfaces.namespace(), config, contents)?);
        tracing::info!(flows = self.inherited.len(), groups = places.len(), "took over from a former edge");
        self.inherited = Vec::new();
        self.early.clear();
        Ok(())
    }
}

fn written(buckets: &[Option<GroupId>], bucket: u16) -> Option<GroupId> {
    buckets.get(usize::from(bucket)).copied().flatten()
}

fn all_buckets() -> std::ops::Range<u16> {
    0..escape_fabric::fabric::BUCKETS
}

/// A steering as the fabric takes it: without a mirror if the standby has no port here.
fn place(group: &GroupSteering, nodes: &BTreeSet<u16>) -> GroupPlace {
    let owner = Some(group.owner.node.0).filter(|node| nodes.contains(node));
    let mirror = group.mirror.map(|standby| standby.node.0).filter(|node| nodes.contains(node));
    GroupPlace { group: group.group.0, owner, mirror }
}

fn sent_frames(fabric: &mut Fabric) -> Result<SentFrames, FabricError> {
    Ok(fabric.counters()?.sent)
}
