//! Slices that crash their guest or are given up: `quarantine/<slot, inc>` says so to every node and every later owner.

use super::config::OrchestratorConfig;
use super::draft::Draft;
use super::machine::{Intent, Orchestrator};
use crate::Micros;
use crate::store::{Key, Record, StoreState};
use escape_proto::{LeaseId, Member, QuarantineRecord, Revision, SliceId, Suspect};
use std::collections::BTreeMap;

/// Crashes of one slice with less time between them than this count together.
pub(super) const CRASH_WINDOW_US: Micros = 60_000_000;
/// Suspects taken from one report; the rest is not suspected.
pub(super) const SUSPECTS_MAX: usize = 64;
/// Longest cause kept, characters.
pub(super) const CAUSE_MAX: usize = 200;
/// Slots of a lease.
const LEASE_SLOTS: u32 = 64;

/// When each record was last written, by the present orchestrator's clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct QuarantineTimes(BTreeMap<SliceId, (Revision, Micros)>);

impl QuarantineTimes {
    /// Follows the records.
    pub fn watch(&mut self, now: Micros, store: &StoreState) {
        let before = std::mem::take(&mut self.0);
        self.0 = store
            .quarantine()
            .map(|r| {
                let version = store.version(Key::Quarantine(r.slice));
                let known = before.get(&r.slice).filter(|(v, _)| *v == version).copied();
                (r.slice, known.unwrap_or((version, now)))
            })
            .collect();
    }

    fn age_us(&self, now: Micros, slice: SliceId) -> Micros {
        self.0.get(&slice).map_or(0, |(_, at)| now.saturating_sub(*at))
    }
}

impl Orchestrator {
    /// Records that are old enough are forgotten: by then no image of their slices is left anywhere.
    pub(super) fn expire_quarantine(&mut self, now: Micros) {
        let limit = self.config.quarantine_us;
        let old = self.quarantine_times.0.keys().copied().find(|s| self.quarantine_times.age_us(now, *s) >= limit);
        let intent = old.map(|slice| Intent::Forget { slice });
        if let Some(intent) = intent.filter(|i| !self.is_queued(i)) {
            self.queue.push_back(intent);
        }
    }
}

/// A record is forgotten.
pub(super) fn forget(draft: &mut Draft<'_>, slice: SliceId) {
    if draft.get(Key::Quarantine(slice)).is_some() {
        draft.delete(Key::Quarantine(slice));
    }
}

/// The owner has given a slice up: nobody is to plug it again.
pub(super) fn given_up(
    config: &OrchestratorConfig,
    draft: &mut Draft<'_>,
    from: Member,
    suspect: Suspect,
    cause: String,
) {
    if !owns(draft, from, suspect) {
        return;
    }
    let known = known(draft, suspect);
    if known.as_ref().is_some_and(|r| r.given_up) {
        return;
    }
    let fresh = QuarantineRecord::of(suspect, from);
    put(config, draft, QuarantineRecord { cause, given_up: true, ..known.unwrap_or(fresh) });
}

/// A guest died while these slices of its node were referenced. One alone is charged; with several it is not known which
/// it was, and they are suspects. `crash` is the node's own number for it: a repeated report charges nobody twice.
pub(super) fn crashed(
    config: &OrchestratorConfig,
    (times, now): (&QuarantineTimes, Micros),
    draft: &mut Draft<'_>,
    from: Member,
    (crash, referenced): (u64, u32),
    suspects: &[Suspect],
) {
    let alone = referenced == 1;
    for suspect in suspects {
        let known = known(draft, *suspect);
        let twice = known.as_ref().is_some_and(|r| (r.by, r.crash) == (from, crash) || r.given_up);
        if twice || !owns(draft, from, *suspect) {
            continue;
        }
        let recent = known.filter(|r| times.age_us(now, r.slice) < CRASH_WINDOW_US).map_or(0, |r| r.count);
        let count = recent.saturating_add(u32::from(alone));
        let given_up = alone && count >= config.slice_crashes_per_minute;
        let fresh = QuarantineRecord::of(*suspect, from);
        let cause = if given_up { format!("its guest crashed {count} times") } else { String::new() };
        put(config, draft, QuarantineRecord { crash, count, given_up, cause, ..fresh });
    }
}

/// The slots of a lease are used anew: what their former slices did does not matter any more.
pub(super) fn forget_lease(draft: &mut Draft<'_>, lease: LeaseId) {
    let of_lease = |r: &QuarantineRecord| r.slice.slot / LEASE_SLOTS == lease.0;
    for record in draft.quarantine().into_iter().filter(of_lease) {
        draft.delete(Key::Quarantine(record.slice));
    }
}

/// Puts a record; the slot's older slices are forgotten, and the oldest record if there are too many.
fn put(config: &OrchestratorConfig, draft: &mut Draft<'_>, record: QuarantineRecord) {
    let mut others = draft.quarantine();
    others.retain(|r| r.slice != record.slice);
    for old in others.iter().filter(|r| r.slice.slot == record.slice.slot && r.slice.inc < record.slice.inc) {
        draft.delete(Key::Quarantine(old.slice));
    }
    while draft.quarantine().iter().filter(|r| r.slice != record.slice).count() >= config.quarantine_max.max(1) {
        let version = |r: &QuarantineRecord| draft.store().version(Key::Quarantine(r.slice));
        let Some(oldest) = draft.quarantine().into_iter().min_by_key(version) else { break };
        draft.delete(Key::Quarantine(oldest.slice));
    }
    draft.put(Record::Quarantine(record));
}

fn known(draft: &mut Draft<'_>, suspect: Suspect) -> Option<QuarantineRecord> {
    match draft.get(Key::Quarantine(suspect.slice)) {
        Some(Record::Quarantine(r)) if r.group == suspect.group => Some(r.clone()),
        _ => None,
    }
}

/// A node speaks for the slices of its own groups only: not for one that has moved out of the group, though it may not have
/// heard of that yet (T9).
fn owns(draft: &mut Draft<'_>, from: Member, suspect: Suspect) -> bool {
    let Suspect { group, slice } = suspect;
    draft.is_up(from)
        && draft.group(group).is_some_and(|g| g.owner == from)
        && !draft.moves().iter().any(|m| m.from == group && m.slices.contains(&slice))
}
