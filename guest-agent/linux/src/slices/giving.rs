//! Restored slices on their way to the processes that serve their ports.

use super::agent::Agent;
use super::places::{Place, Stage};
use super::processes::say;
use escape_capsule::SliceKey;
use escape_process::Message;
use escape_process::channel::SLICES_MAX;

impl Agent {
    /// A restored slice goes to the process that serves its port, now or when there is one. The process hears of it with others, at the latest by
    /// [`Self::tell_given`].
    pub(super) fn give_to_process(&mut self, key: SliceKey) {
        let Self { places, processes, .. } = self;
        let Some(place) = places.get_mut(key) else { return };
        let Stage::Unserved { .. } = &place.stage else { return };
        let Some(process) = processes.of_port(place.flow.service_port).map(|process| process.id) else { return };
        let Some(Stage::Unserved { socket }) = places.take(key) else { return };
        places.set(key, Stage::Plugging { process, socket });
        self.tell_of(process, key);
    }

    /// A process is to hear that it has a slice.
    pub(super) fn tell_of(&mut self, process: u64, key: SliceKey) {
        if self.given.first().is_some_and(|(other, _)| *other != process) {
            self.tell_given();
        }
        self.given.push((process, key));
        if self.given.len() >= SLICES_MAX {
            self.tell_given();
        }
    }

    /// Tells of those that were not told of.
    pub fn tell_given(&mut self) {
        let Self { places, processes, given, .. } = self;
        let Some(process) = given.first().and_then(|(process, _)| processes.get(*process)) else {
            return given.clear();
        };
        let is_plugging =
            |place: &&Place| matches!(place.stage, Stage::Plugging { process: id, .. } if id == process.id);
        let places = given.iter().filter_map(|(_, key)| places.get(*key)).filter(is_plugging);
        let (mut slices, mut connections) = ([None; SLICES_MAX], Vec::with_capacity(SLICES_MAX));
        for (slice, place) in slices.iter_mut().zip(places) {
            connections.extend(place.stage.socket());
            *slice = Some(place.key);
        }
        if !connections.is_empty() {
            say(&process.channel, Message::Plug { slices }, &connections);
        }
        given.clear();
    }

    /// A slice that its process has not heard of yet need not be taken from it.
    pub(super) fn has_heard_of(&self, key: SliceKey) -> bool {
        !self.given.iter().any(|(_, given)| *given == key)
    }
}
