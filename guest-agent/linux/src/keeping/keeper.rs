//! The keeper's side.

use super::name::Name;
use escape_abi::layout::SLOTS_MAX;
use escape_process::channel::Words;
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
/// That was all, or it is forgotten.
pub(super) const DONE: u64 = 6;

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
                let has_room = self.things.len() < THINGS_MAX || self.things.contains_key(&name);
                if let Some(thing) =
                    descriptors.into_iter().next().filter(|_| has_room && Name::of_word(name).is_some())
                {
                    self.things.insert(name, (words, thing));
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
                agent.send_words([DONE, 0, 0, 0, 0, 0, 0, 0], &[])
            }
            _ => Err(ProcessError::Protocol),
        }
    }

    /// How many things there are.
    #[cfg(test)]
    pub(super) fn n_things(&self) -> usize {
        self.things.len()
    }
}
