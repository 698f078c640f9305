//! Slots: which may be given to new slices, and what is in those that are taken.

use super::asking::Asking;
use super::book::{Book, Phase, Record};
use super::free_slots::FreeSlots;
use escape_abi::layout::LEASE_SLOTS;
use escape_abi::message::Flow;
use escape_capsule::SliceKey;
use escape_process::Wire;
use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

/// How far a slice is, for the agent.
#[derive(Debug)]
pub enum Stage {
    /// Its SYN was answered by the kernel; no process has accepted it yet.
    Opening,
    /// A process serves it.
    Running {
        /// Which.
        process: u64,
        /// The agent's own descriptor of the connection.
        socket: OwnedFd,
    },
    /// It was given to a process, which has not said yet that it has it.
    Plugging {
        /// Which.
        process: u64,
        /// As for `Running`.
        socket: OwnedFd,
    },
    /// Restored, and its client is asked what it has.
    Asking {
        /// The connection.
        asking: Asking,
    },
    /// Restored, and no process serves its port yet.
    Unserved {
        /// The connection.
        socket: OwnedFd,
    },
    /// No process has it any more: the agent sends what is left.
    Closing {
        /// The connection.
        wire: Wire,
    },
    /// Over; the host has not let the slot go yet.
    Over {
        /// The connection, which must not speak any more.
        socket: Option<OwnedFd>,
    },
}

impl Stage {
    /// Its name, and its process.
    pub const fn phase(&self) -> (Phase, Option<u64>) {
        match self {
            Self::Opening => (Phase::Opening, None),
            Self::Running { process, .. } => (Phase::Running, Some(*process)),
            Self::Plugging { process, .. } => (Phase::Plugging, Some(*process)),
            Self::Asking { .. } => (Phase::Asking, None),
            Self::Unserved { .. } => (Phase::Unserved, None),
            Self::Closing { .. } => (Phase::Closing, None),
            Self::Over { .. } => (Phase::Over, None),
        }
    }

    /// The agent's descriptor of its connection.
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Opening | Self::Over { socket: None } => None,
            Self::Running { socket, .. }
            | Self::Plugging { socket, .. }
            | Self::Unserved { socket }
            | Self::Over { socket: Some(socket) } => Some(socket.as_fd()),
            Self::Asking { asking } => Some(asking.socket()),
            Self::Closing { wire } => Some(wire.as_fd()),
        }
    }
}

/// A slice of this guest.
#[derive(Debug)]
pub struct Place {
    /// Its name.
    pub key: SliceKey,
    /// Its connection.
    pub flow: Flow,
    /// How far it is.
    pub stage: Stage,
    /// The host knows that it is plugged, or began here.
    pub told: bool,
    /// Since when.
    pub since: Instant,
}

/// All slots of the arena. Every change is in the book before it is acted upon.
#[derive(Debug)]
pub struct Places {
    by_slot: Vec<Option<Place>>,
    by_flow: HashMap<Flow, u32>,
    free: FreeSlots,
    /// What outlives the agent.
    pub book: Book,
}

impl Places {
    /// No slice; leases and free slots are those of the book.
    pub fn new(book: Book) -> Self {
        let n = book.n_slots();
        let mut free = FreeSlots::new(n);
        (0..n)
            .filter(|slot| book.lease(*slot).is_some() && book.record(*slot).phase == Phase::Free)
            .for_each(|slot| free.add(slot));
        let mut by_slot = Vec::new();
        by_slot.resize_with(n as usize, || None);
        Self { by_slot, by_flow: HashMap::new(), free, book }
    }

    /// These slots may be given to new slices.
    pub fn lease(&mut self, first_slot: u32, generation: u32) {
        for slot in first_slot..first_slot.saturating_add(LEASE_SLOTS).min(self.book.n_slots()) {
            let is_new = self.book.lease(slot).is_none();
            self.book.set_lease(slot, generation);
            if is_new && self.at(slot).is_none() {
                self.free.add(slot);
            }
        }
    }

    /// Takes a free slot for a new slice; `None`: there is none, or the flow has a slice already.
    pub fn allocate(&mut self, flow: Flow) -> Option<SliceKey> {
        if self.by_flow.contains_key(&flow) {
            return None;
        }
        let slot = self.free.next()?;
        let generation = self.book.lease(slot)?;
        // No two slices have the same incarnation of a slot.
        let made = self.book.made().checked_add(1)?;
        self.book.set_made(made);
        let key = SliceKey { slot, incarnation: u64::from(generation) << 32 | u64::from(made) };
        self.insert(Place { key, flow, stage: Stage::Opening, told: true, since: Instant::now() });
        Some(key)
    }

    /// Whether a slice from elsewhere could be put: neither its slot nor its flow is taken.
    pub fn has_room_for(&self, key: SliceKey, flow: &Flow) -> bool {
        self.at(key.slot).is_none() && !self.by_flow.contains_key(flow)
    }

    /// A slice from elsewhere is in its slot; the caller has asked [`Self::has_room_for`].
    pub fn put(&mut self, place: Place) {
        let slot = place.key.slot;
        self.free.remove(slot);
        self.insert(place);
    }

    /// A slice is in a slot that is not free.
    pub fn insert(&mut self, place: Place) {
        if let Some(entry) = self.by_slot.get_mut(place.key.slot as usize) {
            self.by_flow.insert(place.flow, place.key.slot);
            let place = entry.insert(place);
            note(&self.book, place);
        }
    }

    /// A slice is so far now.
    pub fn set(&mut self, key: SliceKey, stage: Stage) {
        let Some(place) = self.by_slot.get_mut(key.slot as usize).and_then(Option::as_mut) else { return };
        if place.key == key {
            place.stage = stage;
            note(&self.book, place);
        }
    }

    /// Takes a slice's stage out, to be [`Self::set`] at once; the book keeps it until then.
    pub fn take(&mut self, key: SliceKey) -> Option<Stage> {
        let place = self.get_mut(key)?;
        Some(std::mem::replace(&mut place.stage, Stage::Over { socket: None }))
    }

    /// The host is about to hear that the slice is plugged; true: it has not heard so before.
    pub fn tell(&mut self, key: SliceKey) -> bool {
        let Some(place) = self.by_slot.get_mut(key.slot as usize).and_then(Option::as_mut) else { return false };
        place.key == key && !std::mem::replace(&mut place.told, true)
    }

    /// It has heard.
    pub fn has_told(&mut self, key: SliceKey) {
        let Self { by_slot, book, .. } = self;
        if let Some(place) = by_slot.get(key.slot as usize).and_then(Option::as_ref).filter(|place| place.key == key) {
            note(book, place);
        }
    }

    /// What is in a slot.
    pub fn at(&self, slot: u32) -> Option<&Place> {
        self.by_slot.get(slot as usize)?.as_ref()
    }

    /// The slice, if it is here.
    pub fn get(&self, key: SliceKey) -> Option<&Place> {
        self.at(key.slot).filter(|place| place.key == key)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, key: SliceKey) -> Option<&mut Place> {
        self.by_slot.get_mut(key.slot as usize)?.as_mut().filter(|place| place.key == key)
    }

    /// The slice of a flow.
    pub fn of_flow(&mut self, flow: &Flow) -> Option<&mut Place> {
        let slot = *self.by_flow.get(flow)?;
        self.by_slot.get_mut(slot as usize)?.as_mut()
    }

    /// Takes a slice out; the slot is not free yet.
    pub fn remove(&mut self, key: SliceKey) -> Option<Place> {
        let entry = self.by_slot.get_mut(key.slot as usize)?;
        let place = entry.take_if(|place| place.key == key)?;
        self.by_flow.remove(&place.flow);
        self.book.clear(key.slot, Phase::Gone);
        Some(place)
    }

    /// The host has let a slot go.
    pub fn free(&mut self, slot: u32) {
        if slot >= self.book.n_slots() || self.at(slot).is_some() {
            return;
        }
        self.book.clear(slot, Phase::Free);
        if self.book.lease(slot).is_some() {
            self.free.add(slot);
        }
    }

    /// All slices.
    pub fn iter(&self) -> impl Iterator<Item = &Place> {
        self.by_slot.iter().flatten()
    }

    /// Names of the slices of which this is true.
    pub fn keys(&self, which: impl Fn(&Place) -> bool) -> Vec<SliceKey> {
        self.iter().filter(|place| which(place)).map(|place| place.key).collect()
    }

    /// Slots that may be given away.
    #[cfg(test)]
    pub fn free_len(&self) -> usize {
        self.free.len()
    }
}

fn note(book: &Book, place: &Place) {
    let (phase, process) = place.stage.phase();
    book.write(&Record { phase, told: place.told, key: place.key, flow: place.flow, process: process.unwrap_or(0) });
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn flow(port: u16) -> Flow {
        Flow { ip: [10, 0, 0, 1], port, service_port: 80 }
    }

    #[test]
    fn slots_come_from_leases_and_no_name_is_used_twice() {
        let mut places = Places::new(Book::new(128).unwrap());
        assert_eq!(places.allocate(flow(1)), None);
        places.lease(64, 7);
        places.lease(64, 7);
        assert_eq!(places.free_len(), 64);
        let first = places.allocate(flow(1)).unwrap();
        assert_eq!((first.slot, first.incarnation), (64, 7 << 32 | 1));
        assert_eq!(places.allocate(flow(1)), None, "one slice for a flow");
        assert!(places.remove(SliceKey { incarnation: 9, ..first }).is_none());
        assert!(places.remove(first).is_some());
        assert_eq!(places.free_len(), 63, "the host has it still");
        places.free(first.slot);
        places.free(first.slot);
        places.free(3);
        assert_eq!(places.free_len(), 64, "once, and none of another's lease");
        let names: Vec<SliceKey> = (0..64).map(|port| places.allocate(flow(port)).unwrap()).collect();
        assert!(names.iter().all(|key| *key != first) && places.allocate(flow(99)).is_none());
    }
}
