//! What outlives the agent: a process that keeps descriptors for it, and starts it again.
//!
//! ```text
//! escape-agent (keeper) ── starts ─→ escape-agent serve (agent)
//!        ↑                                  │
//!        └── Keep NAME + descriptor, Forget ┘      the agent ends, however it ends: its successor asks for all
//! ```
//!
//! An agent that dies takes its descriptors with it, and the kernel would end every connection of which it had the last one. So each
//! that must go on has a second one here, under a name: connections of slices, processes, the socket where processes call, and the memory in
//! which the agent writes down what is in which slot ([`crate::slices`]). The keeper understands none of it, which is why it has no reason
//! to die. (systemd's file descriptor store is the same idea.)

mod keeper;
mod kept;
mod name;
mod supervise;

pub use keeper::Keeper;
pub use kept::{Kept, Thing};
pub use name::Name;
pub use supervise::{SERVE, supervise};
