//! The keeper's side.

use super::name::Name;
use escape_abi::layout::SLOTS_MAX;
use escape_process::channel::{DESCRIPTORS_MAX, Words};
use escape_process::{Channel, ProcessError};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

/// Things that are kept at once: a connection for each slot, and more processes than an agent takes. One more is not kept.
const THINGS_MAX: usize = SLOTS_MAX as usize + 256;

/// What the agent says: keep this, under this name and with these words, in place of what had the name.
pub(super) const KEEP: u64 = 1;
/// Forget what has this name.
pub(super) const FORGET: u64 = 2;
/// The same, and say when it is done.
pub(super) const FORGET_NOW: u64 = 3;
/// Say all there is.
pub(super) const ALL: u64 = 4;
/// What the keeper says: this is kept.
pub(super) const IS: u64 = 5;
/// That was all, or it is forgotten; with what this keeper can do.
pub(super) const DONE: u64 = 6;
/// Keep the connections of these slots: two in each word, [`NO_SLOT`] for none.
pub(super) const KEEP_CONNECTIONS: u64 = 7;
pub(super) const NO_SLOT: u32 = u32::MAX;
/// Connections of one such message.
pub(super) const CONNECTIONS_MAX: usize = DESCRIPTORS_MAX;
/// Behind [`DONE`]: it knows [`KEEP_CONNECTIONS`]. An agent may be newer than its keeper.
pub(super) const KEEPS_MANY: u64 = 1;

/// Things of an agent, by their names.
#[derive(Debug, Default)]
pub struct Keeper {
    things: BTreeMap<u64, (Words, OwnedFd)>,
}

impl Keeper {
    /// Serves an agent until it is gone.
    pub fn serve(&mut self, agent: &Channel) {
        while let Ok(Some((words, descriptors))) = agent.receive_words(true) {
            if self.hear(agent, words, descriptors).is_err() {
                return;
            }
        }
    }

    fn hear(&mut self, agent: &Channel, words: Words, descriptors: Vec<OwnedFd>) -> Result<(), ProcessError> {
        let [what, name, ..] = words;
        match what {
            KEEP => {
                if let Some(thing) = descriptors.into_iter().next() {
                    self.keep(name, words, thing);
                }
                Ok(())
            }
            KEEP_CONNECTIONS => {
                let slots = words.into_iter().skip(1).flat_map(|two| [two as u32, (two >> 32) as u32]);
                for (slot, thing) in slots.filter(|slot| *slot != NO_SLOT).zip(descriptors) {
                    let name = Name::Connection(slot).to_word();
                    self.keep(name, [KEEP, name, 0, 0, 0, 0, 0, 0], thing);
                }
                Ok(())
            }
            FORGET => {
                self.things.remove(&name);
                Ok(())
            }
            FORGET_NOW => {
                self.things.remove(&name);
                agent.send_words([DONE, 0, 0, 0, 0, 0, 0, 0], &[])
            }
            ALL => {
                for ([_, name, a, b, c, d, ..], thing) in self.things.values() {
                    agent.send_words([IS, *name, *a, *b, *c, *d, 0, 0], &[thing.as_fd()])?;
                }
                agent.send_words([DONE, KEEPS_MANY, 0, 0, 0, 0, 0, 0], &[])
            }
            _ => Err(ProcessError::Protocol),
        }
    }

    fn keep(&mut self, name: u64, words: Words, thing: OwnedFd) {
        let has_room = self.things.len() < THINGS_MAX || self.things.contains_key(&name);
        if has_room && Name::of_word(name).is_some() {
            self.things.insert(name, (words, thing));
        }
    }

    /// How many things there are.
    #[cfg(test)]
    pub(super) fn n_things(&self) -> usize {
        self.things.len()
    }
}
