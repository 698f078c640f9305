//! Counters of the commit path. Plain numbers: one thread writes them, the node reads them between events.

use super::verdict::DropCause;

/// Counters of the [valve](super::valve::Valve).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ValveMetrics {
    /// Frames queued until a commit.
    pub held: u64,
    /// Frames whose generation was committed already.
    pub sent_at_once: u64,
    /// Frames of unprotected output that were let through.
    pub passed_unprotected: u64,
    /// Frames let through because replication is off.
    pub passed_through: u64,
    /// Held frames released by a commit.
    pub released: u64,
    /// Bytes of released frames.
    pub released_bytes: u64,
    /// Held frames dropped with their slice.
    pub discarded: u64,
    /// Held frames dropped for age.
    pub expired: u64,
    /// Frames whose numbers contradicted the committed state (invariant I1).
    pub breaches: u64,
    /// Slices quarantined here.
    pub quarantined: u64,
    /// Bindings refused.
    pub refused_bindings: u64,
    /// Answers to SYNs that waited for a binding.
    pub openings: u64,
    /// Frames dropped, by [`DropCause::index`].
    pub dropped: [u64; DropCause::COUNT],
}

impl ValveMetrics {
    /// Frames dropped for one cause.
    pub fn dropped_for(&self, cause: DropCause) -> u64 {
        self.dropped.get(cause.index()).copied().unwrap_or(0)
    }

    pub(super) fn count_drop(&mut self, cause: DropCause) {
        if let Some(n) = self.dropped.get_mut(cause.index()) {
            *n += 1;
        }
    }
}

/// Counters of the [capturer](super::capture::Capturer).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CaptureMetrics {
    /// Checkpoints captured.
    pub captured: u64,
    /// Of these, full copies.
    pub full: u64,
    /// Captures that found nothing new.
    pub unchanged: u64,
    /// Tries lost because the guest took a reference meanwhile.
    pub retries: u64,
    /// Holds set.
    pub holds: u64,
    /// Captures put off because the slot stayed referenced.
    pub referenced: u64,
    /// References that were too old.
    pub hanging: u64,
    /// Published metadata refused.
    pub lies: u64,
    /// Bytes of live ranges copied.
    pub copied_bytes: u64,
    /// Changed lines sent.
    pub lines: u64,
    /// Bytes of bodies.
    pub body_bytes: u64,
}

/// Counters of the [image store](super::image::ImageStore).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImageMetrics {
    /// Images created.
    pub created: u64,
    /// Images freed.
    pub freed: u64,
    /// Checkpoints applied.
    pub applied: u64,
    /// Bytes of applied bodies.
    pub applied_bytes: u64,
    /// Full copies encoded from a shadow.
    pub full_copies: u64,
    /// Checkpoints refused because one before is missing.
    pub gaps: u64,
    /// Checkpoints refused for any other cause.
    pub refused: u64,
    /// Slices installed into the arena.
    pub installed: u64,
    /// Bytes installed.
    pub installed_bytes: u64,
}

/// Counters of [gate and mirror](super::ingress::IngressStore).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IngressMetrics {
    /// Frames kept, from mirror or gate.
    pub stored: u64,
    /// Frames let on to the guest.
    pub to_guest: u64,
    /// Kept segments dropped because a checkpoint covers them.
    pub covered: u64,
    /// Kept frames given to the guest.
    pub replayed: u64,
    /// Frames that were old, double, or none of our business.
    pub useless: u64,
    /// Segments beyond the flow's window.
    pub beyond_window: u64,
    /// Frames dropped for a flow's limit (highest sequence first).
    pub over_flow_limit: u64,
    /// Frames dropped for the VMM's limit.
    pub over_vmm_limit: u64,
    /// Unparsable frames.
    pub unparsable: u64,
    /// Flows without a slice that were forgotten.
    pub flows_expired: u64,
}

/// Counters of the [tombstones](super::tombstone::Tombstones).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TombstoneMetrics {
    /// Tombstones laid.
    pub laid: u64,
    /// Tombstones dropped before their time because there were too many.
    pub dropped_early: u64,
    /// Late segments answered with an acknowledgement.
    pub answered: u64,
    /// Segments answered with a reset: of a slice that was given up, or beyond what the slice has taken.
    pub reset: u64,
    /// Late segments met by silence.
    pub silent: u64,
    /// New connections let through.
    pub reopened: u64,
}
