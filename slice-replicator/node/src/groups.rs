//! Which groups' input this node may let into its guest.

use escape_fabric::fabric::{PlaceBy, bucket_of};
use escape_proto::{BucketTable, Flow, GroupId, SliceId};
use std::collections::{BTreeMap, HashMap, VecDeque};

/// SYNs remembered for replay at the opening of a gate.
const RECENT_SYNS_MAX: usize = 4096;
/// How long, microseconds: as long as a client tries at the most before it is slow anyway.
const RECENT_SYN_US: u64 = 5_000_000;

/// May a group's input pass?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Not this node's group: its input is not for this guest.
    Foreign,
    /// The group is being activated: input is kept.
    Gated,
    /// Open.
    Open,
}

/// Gates of the groups that this node owns, and the placement of new flows.
#[derive(Debug, Default)]
pub struct Groups {
    access: BTreeMap<GroupId, Access>,
    buckets: BucketTable,
    seed: u32,
    place_by: PlaceBy,
    /// Flows of slices that wait for their plug.
    waiting: HashMap<Flow, (GroupId, SliceId)>,
    recent_syns: VecDeque<(Flow, u64)>,
}

impl Groups {
    /// No group yet; new flows are placed by this.
    pub fn new(place_by: PlaceBy) -> Self {
        Self { place_by, ..Self::default() }
    }

    /// The cell's placement seed, known after the join.
    pub const fn set_seed(&mut self, seed: u32) {
        self.seed = seed;
    }

    /// A newer placement table; an older one is ignored.
    pub fn set_buckets(&mut self, buckets: BucketTable) {
        if buckets.version >= self.buckets.version {
            self.buckets = buckets;
        }
    }

    /// The group that the fabric gives a new flow.
    pub fn of_new_flow(&self, flow: &Flow) -> Option<GroupId> {
        let flow = escape_fabric::fabric::Flow::new(flow.ip.into(), flow.port, flow.service_port);
        self.buckets.group(bucket_of(&flow, self.seed, self.place_by))
    }

    /// The flow as the fabric steers it: itself, or its client's address alone.
    pub fn steered(&self, flow: &Flow) -> Flow {
        match self.place_by {
            PlaceBy::Flow => *flow,
            PlaceBy::Client => Flow { port: 0, service_port: 0, ..*flow },
        }
    }

    /// A group's access.
    pub fn access(&self, group: GroupId) -> Access {
        self.access.get(&group).copied().unwrap_or(Access::Foreign)
    }

    /// Sets a group's access.
    pub fn set(&mut self, group: GroupId, access: Access) {
        if access == Access::Foreign {
            self.access.remove(&group);
            self.waiting.retain(|_, (g, _)| *g != group);
        } else {
            self.access.insert(group, access);
        }
    }

    /// The slice of this flow waits for its plug: its input is kept until then.
    pub fn wait_for_plug(&mut self, flow: Flow, group: GroupId, slice: SliceId) {
        self.waiting.insert(self.steered(&flow), (group, slice));
    }

    /// The slice of this flow, if it waits for its plug.
    pub fn waiting(&self, flow: &Flow) -> Option<SliceId> {
        self.waiting.get(&self.steered(flow)).map(|(_, slice)| *slice)
    }

    /// The flow's slice runs, or is given up.
    pub fn plugged(&mut self, flow: &Flow) {
        self.waiting.remove(&self.steered(flow));
    }

    /// Must input of this flow be kept? `bound`: a slice of this node has the flow. `home`: the group of its client's slice here.
    pub fn keeps(&self, flow: &Flow, bound: bool, home: Option<GroupId>) -> bool {
        let group = || home.or_else(|| self.of_new_flow(flow));
        self.waiting.contains_key(&self.steered(flow))
            || (!bound && group().is_some_and(|group| self.access(group) == Access::Gated))
    }

    /// A SYN was kept (gate) or seen (mirror).
    pub fn remember_syn(&mut self, flow: Flow, now: u64) {
        while self.recent_syns.len() >= RECENT_SYNS_MAX
            || self.recent_syns.front().is_some_and(|(_, at)| now.saturating_sub(*at) > RECENT_SYN_US)
        {
            self.recent_syns.pop_front();
        }
        self.recent_syns.push_back((flow, now));
    }

    /// Flows whose SYN was remembered and that the placement gives to `group`.
    pub fn remembered_of(&self, group: GroupId, now: u64) -> Vec<Flow> {
        self.remembered(now).filter(|f| self.of_new_flow(f) == Some(group)).collect()
    }

    /// Flows whose SYN was remembered and that belong to the slice of `flow`'s client.
    pub fn remembered_with(&self, flow: &Flow, now: u64) -> Vec<Flow> {
        match self.place_by {
            PlaceBy::Flow => Vec::new(),
            PlaceBy::Client => self.remembered(now).filter(|f| f.ip == flow.ip).collect(),
        }
    }

    fn remembered(&self, now: u64) -> impl Iterator<Item = Flow> {
        let fresh = move |at: u64| now.saturating_sub(at) <= RECENT_SYN_US;
        self.recent_syns.iter().filter(move |(_, at)| fresh(*at)).map(|(flow, _)| *flow)
    }
}
