//! The session server image: the main loop around [`escape_session::Server`].
//!
//! One turn: messages of the host → received frames, at most [`FRAMES_PER_TURN_MAX`] → timers → frames shown, one kick.
//! The frames of a slice are shown after its reference was given back, so that the VMM reads a quiescent slot word.

#[cfg(not(test))]
mod guest;
pub mod idle;
#[cfg(not(test))]
mod platform;
pub mod poison_budget;
#[cfg(not(test))]
mod recovery;
pub mod timer;

pub use poison_budget::PoisonBudget;

/// Frames that a turn takes before it looks at messages and timers again.
pub const FRAMES_PER_TURN_MAX: usize = 64;
/// Messages of the host that a turn takes.
pub const MESSAGES_PER_TURN_MAX: usize = 256;

#[cfg(not(test))]
pub use recovery::{recover, run};
