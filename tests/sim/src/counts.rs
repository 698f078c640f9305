//! What happened in a run, or in many.

use crate::fault_kind::FaultKind;
use serde_json::{Map, Value};
use std::ops::AddAssign;

/// Counts of one run, or their sums over several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Replies that clients got.
    pub served: u64,
    /// Frames released.
    pub releases: u64,
    /// Activations that had slices.
    pub activations: u64,
    /// Groups that a node brought back when it joined anew.
    pub claims: u64,
    /// Slices moved while they lived.
    pub moved: u64,
    /// Leases given once more, after all slices in them had ended.
    pub leases_again: u64,
    /// Slices given up in the store.
    pub quarantined: u64,
    /// Requests that killed a guest.
    pub poisonings: u64,
    /// Groups lost (legally).
    pub lost_groups: u64,
    /// Sessions given up.
    pub given_up: u64,
    /// How often each kind of fault was made, as in [`FaultKind::ALL`].
    pub faults: [u64; FaultKind::COUNT],
}

impl Counts {
    /// The counts by their names, without the faults.
    const fn named(&self) -> [(&'static str, u64); 10] {
        [
            ("served", self.served),
            ("releases", self.releases),
            ("activations", self.activations),
            ("claims", self.claims),
            ("moved", self.moved),
            ("leases_again", self.leases_again),
            ("quarantined", self.quarantined),
            ("poisonings", self.poisonings),
            ("lost_groups", self.lost_groups),
            ("given_up", self.given_up),
        ]
    }

    /// Each kind of fault and how often it was made.
    pub fn faults(&self) -> impl Iterator<Item = (FaultKind, u64)> {
        FaultKind::ALL.into_iter().zip(self.faults)
    }

    /// For programs.
    pub fn json(&self) -> Map<String, Value> {
        let mut json: Map<_, _> = self.named().into_iter().map(|(name, n)| (name.to_owned(), n.into())).collect();
        let faults: Map<_, _> = self.faults().map(|(kind, made)| (kind.name().to_owned(), made.into())).collect();
        json.insert("faults".to_owned(), faults.into());
        json
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.served += other.served;
        self.releases += other.releases;
        self.activations += other.activations;
        self.claims += other.claims;
        self.moved += other.moved;
        self.leases_again += other.leases_again;
        self.quarantined += other.quarantined;
        self.poisonings += other.poisonings;
        self.lost_groups += other.lost_groups;
        self.given_up += other.given_up;
        for (sum, made) in self.faults.iter_mut().zip(other.faults) {
            *sum += made;
        }
    }
}
