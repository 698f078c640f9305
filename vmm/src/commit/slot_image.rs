//! What is known about one slot's image, beside its bytes.

use super::chain::{CHAIN_START, ChainHash};
use super::connections::{Place, Places};
use super::line_set::LineSet;
use super::page_set::PageSet;
use super::published::Published;
use super::slice_id::SliceId;
use escape_abi::message::Flow;

/// What an image is for. A slot's image is one of the two at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The owner's copy of the last captured state: deltas are made against it.
    Shadow,
    /// The standby's copy: checkpoints are applied to it.
    Standby,
}

/// One slot's image.
#[derive(Clone, Debug)]
pub struct SlotImage {
    /// The slice.
    pub slice: SliceId,
    /// The flow that it began with: its name for people, and for the cluster.
    pub flow: Flow,
    /// Its connections. Shadow: as this VMM bound them. Standby: as the last checkpoint told.
    pub places: Places,
    /// Shadow or standby.
    pub role: Role,
    /// Number of the last checkpoint captured or applied; 0 before the first.
    pub number: u64,
    /// Chain link of that checkpoint.
    pub chain: ChainHash,
    /// State that it published; `None` before the first.
    pub published: Option<Published>,
    /// Shadow: lines that shadow and standby are known to share. Standby: lines received.
    pub(super) known: LineSet,
    /// Pages that have been live in a checkpoint applied here.
    pub(super) pages: PageSet,
}

impl SlotImage {
    pub(super) fn new(slice: SliceId, flow: Flow, role: Role) -> Self {
        let mut places = Places::default();
        if let Some(first) = places.first_mut() {
            *first = Place::Bound { flow, serial: 0 };
        }
        Self {
            slice,
            flow,
            places,
            role,
            number: 0,
            chain: CHAIN_START,
            published: None,
            known: LineSet::default(),
            pages: PageSet::default(),
        }
    }

    /// The other role from now on: owner and standby have the same live lines, and no others count.
    pub(super) fn take_role(&mut self, role: Role) {
        self.role = role;
        self.known.clear();
        for span in self.published.iter().flat_map(|state| state.live.spans()) {
            self.known.insert(span);
        }
    }

    /// Generation of the last checkpoint.
    pub fn generation(&self) -> Option<u64> {
        self.published.as_ref().map(|p| p.generation)
    }
}
