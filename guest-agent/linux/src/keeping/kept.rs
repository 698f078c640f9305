//! The agent's side.

use super::keeper::{ALL, CONNECTIONS_MAX, DONE, FORGET, FORGET_NOW, IS, KEEP, KEEP_CONNECTIONS, KEEPS_MANY, NO_SLOT};
use super::name::Name;
use escape_process::{Channel, ProcessError};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// The keeper answers within this, or is taken for gone.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// What a former agent has left.
#[derive(Debug)]
pub struct Thing {
    /// What it is.
    pub name: Name,
    /// What was said of it.
    pub words: [u64; 4],
    /// It.
    pub descriptor: OwnedFd,
}

/// The keeper, for the agent. An agent whose keeper is gone says so once and goes on; what is served then ends with the agent.
#[derive(Debug)]
pub struct Kept {
    keeper: Option<Channel>,
    /// It takes many connections with one message.
    takes_many: bool,
}

impl Kept {
    /// By this keeper.
    ///
    /// # Errors
    /// It is no channel.
    pub fn by(keeper: Channel) -> Result<Self, ProcessError> {
        keeper.patience(ANSWER_MAX)?;
        Ok(Self { keeper: Some(keeper), takes_many: false })
    }

    /// By nobody: for tests.
    pub const fn by_nobody() -> Self {
        Self { keeper: None, takes_many: false }
    }

    /// Keeps a copy of a descriptor, in place of what had the name.
    pub fn keep(&mut self, name: Name, words: [u64; 4], descriptor: BorrowedFd<'_>) {
        let [a, b, c, d] = words;
        self.ask(|keeper| keeper.send_words([KEEP, name.to_word(), a, b, c, d, 0, 0], &[descriptor]));
    }

    /// The same for the connections of slots, with few messages.
    pub fn keep_connections<C: AsFd>(&mut self, connections: &[(u32, C)]) {
        if !self.takes_many {
            for (slot, connection) in connections {
                self.keep(Name::Connection(*slot), [0; 4], connection.as_fd());
            }
            return;
        }
        for some in connections.chunks(CONNECTIONS_MAX) {
            let mut slots = some.iter().map(|(slot, _)| *slot).chain(std::iter::repeat(NO_SLOT));
            let mut two = || slots.by_ref().take(2).fold(0, |word, slot| word >> 32 | u64::from(slot) << 32);
            let words = [KEEP_CONNECTIONS, two(), two(), two(), two(), two(), two(), two()];
            let descriptors: Vec<BorrowedFd<'_>> = some.iter().map(|(_, connection)| connection.as_fd()).collect();
            self.ask(|keeper| keeper.send_words(words, &descriptors));
        }
    }

    /// Drops it, soon.
    pub fn forget(&mut self, name: Name) {
        self.ask(|keeper| keeper.send_words([FORGET, name.to_word(), 0, 0, 0, 0, 0, 0], &[]));
    }

    /// Drops it before this returns.
    pub fn forget_now(&mut self, name: Name) {
        self.ask(|keeper| {
            keeper.send_words([FORGET_NOW, name.to_word(), 0, 0, 0, 0, 0, 0], &[])?;
            keeper.receive_words(true).map(drop)
        });
    }

    /// All that is kept.
    ///
    /// # Errors
    /// The keeper is gone, or says what this agent does not know.
    pub fn all(&mut self) -> Result<Vec<Thing>, ProcessError> {
        let Some(keeper) = &self.keeper else { return Ok(Vec::new()) };
        keeper.send_words([ALL, 0, 0, 0, 0, 0, 0, 0], &[])?;
        let mut all = Vec::new();
        loop {
            let Some((words, descriptors)) = keeper.receive_words(true)? else { return Err(ProcessError::Protocol) };
            let [what, name, a, b, c, d, ..] = words;
            match (what, Name::of_word(name), descriptors.into_iter().next()) {
                (DONE, ..) => {
                    self.takes_many = name & KEEPS_MANY != 0;
                    return Ok(all);
                }
                (IS, Some(name), Some(descriptor)) => all.push(Thing { name, words: [a, b, c, d], descriptor }),
                _ => return Err(ProcessError::Protocol),
            }
        }
    }

    fn ask(&mut self, question: impl FnOnce(&Channel) -> Result<(), ProcessError>) {
        #[cfg(test)]
        crate::slices::crash::step();
        if let Some(keeper) = &self.keeper
            && let Err(error) = question(keeper)
        {
            eprintln!("escape-agent: the keeper is gone ({error}): what is served now ends with this agent");
            self.keeper = None;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::keeper::Keeper;
    use super::*;

    #[test]
    fn an_agents_things_are_its_successors() {
        let mut keeper = Keeper::default();
        for life in 0..3u64 {
            let (ours, theirs) = Channel::pair().unwrap();
            let agent = std::thread::spawn(move || {
                let mut kept = Kept::by(theirs).unwrap();
                let all = kept.all().unwrap();
                let zero = std::fs::File::open("/dev/zero").unwrap();
                kept.keep(Name::Connection(7), [life, 2, 3, 4], zero.as_fd());
                kept.keep(Name::Process(life), [0; 4], zero.as_fd());
                kept.keep(Name::Book, [0; 4], zero.as_fd());
                kept.forget(Name::Book);
                kept.forget_now(Name::Process(life.wrapping_sub(1)));
                all.iter().map(|thing| (thing.name, thing.words[0])).collect::<Vec<_>>()
            });
            keeper.serve(&ours);
            let left = agent.join().unwrap();
            match life {
                0 => assert!(left.is_empty()),
                _ => assert_eq!(left, [(Name::Process(life - 1), 0), (Name::Connection(7), life - 1)]),
            }
            assert_eq!(keeper.n_things(), 2);
        }
    }

    #[test]
    fn many_connections_are_kept_at_once_and_by_an_old_keeper_one_by_one() {
        for takes_many in [true, false] {
            let (ours, theirs) = Channel::pair().unwrap();
            let agent = std::thread::spawn(move || {
                let mut kept = Kept::by(theirs).unwrap();
                assert!(kept.all().unwrap().is_empty() && kept.takes_many);
                kept.takes_many = takes_many;
                let connections: Vec<_> =
                    (0..29u32).map(|slot| (slot * 3, std::fs::File::open("/dev/zero").unwrap())).collect();
                kept.keep_connections(&connections);
                kept.forget_now(Name::Connection(84));
                kept.all().unwrap().iter().map(|thing| thing.name).collect::<Vec<_>>()
            });
            let mut keeper = Keeper::default();
            keeper.serve(&ours);
            let wanted: Vec<Name> = (0..28).map(|slot| Name::Connection(slot * 3)).collect();
            assert_eq!(agent.join().unwrap(), wanted);
        }
    }

    #[test]
    fn an_agent_goes_on_without_a_keeper() {
        let (ours, theirs) = Channel::pair().unwrap();
        let mut kept = Kept::by(theirs).unwrap();
        drop(ours);
        let zero = std::fs::File::open("/dev/zero").unwrap();
        kept.keep(Name::Book, [0; 4], zero.as_fd());
        kept.forget_now(Name::Book);
        assert!(kept.all().unwrap().is_empty());
    }
}
