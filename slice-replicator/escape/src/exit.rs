//! Exit codes of the command: an interface for scripts.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done; every promise kept, every check passed.
    Done = 0,
    /// A promise was broken or a check failed.
    Broken = 1,
    /// The command line or a configuration file is wrong.
    Usage = 2,
    /// This machine lacks something that is needed.
    Environment = 3,
}

/// Told at the end of `--help`.
pub const EXIT_CODES_HELP: &str = "\
Exit codes:
  0  done; every promise kept, every check passed
  1  a promise was broken, a check failed, or the work could not be finished
  2  the command line or a configuration file is wrong
  3  this machine lacks something that is needed (see `escape doctor`)";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
