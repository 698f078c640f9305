//! Starts the agent, and again when it has ended.

use super::keeper::Keeper;
use crate::error::AgentError;
use escape_process::Channel;
use rustix::process::{Resource, Rlimit, setrlimit};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The word with which the program is the agent; its input is the keeper.
pub const SERVE: &str = "serve";
/// Descriptors of keeper and agent: one of each slot's connection, twice while one takes over.
const DESCRIPTORS: u64 = 262_144;
/// An agent that has lived for less than this is started again after a moment, so that one that cannot start does not keep the guest busy.
const LIFE_MIN: Duration = Duration::from_secs(1);

/// Keeps an agent running, for ever. It is started from where this program lies, so that a new version takes over when the old one is ended.
///
/// # Errors
/// It cannot be started at all.
pub fn supervise() -> Result<(), AgentError> {
    let program = std::env::current_exe().map_err(AgentError::Start)?;
    let most = Rlimit { current: Some(DESCRIPTORS), maximum: Some(DESCRIPTORS) };
    if let Err(errno) = setrlimit(Resource::Nofile, most) {
        eprintln!(
            "escape-agent: {DESCRIPTORS} descriptors are not to be had ({errno}): many connections may be refused"
        );
    }
    let mut keeper = Keeper::default();
    loop {
        let begun = Instant::now();
        let (ours, theirs) = Channel::pair()?;
        let input = theirs.as_fd().try_clone_to_owned().map_err(AgentError::Start)?;
        let mut agent =
            Command::new(&program).arg(SERVE).stdin(Stdio::from(input)).spawn().map_err(AgentError::Start)?;
        drop(theirs);
        keeper.serve(&ours);
        // One that lives on without its keeper would serve beside its successor.
        let _ = agent.kill();
        let ended = agent.wait().map_err(AgentError::Start)?;
        eprintln!("escape-agent: the agent ended ({ended}) and is started again");
        std::thread::sleep(LIFE_MIN.saturating_sub(begun.elapsed()));
    }
}
