//! Slices of this guest's processes.
//!
//! ```text
//! kernel answers a SYN → [host] Opening → slot, first state, Bind → the answer leaves with the first checkpoint
//! process accepts → Adopt → works on the slice in turns → Closing → the rest is sent, the slice ends → [host] SlotFree
//! the agent has died → its successor: book and descriptors of the keeper → each slice goes on where it was (`takeover`)
//! a machine has died → [host] Plug → connection restored (`ahead` of its turn, if many wait; its client asked, if it may have much) → the process that serves its port
//! ```

mod agent;
mod ahead;
mod asking;
mod book;
mod closing;
#[cfg(test)]
pub(crate) mod crash;
mod free_slots;
mod giving;
mod host;
mod places;
mod processes;
mod route;
mod run;
mod serving;
mod syn_answer;
mod takeover;
#[cfg(test)]
mod tests;
mod words;

pub use agent::{Agent, Devices};
pub use host::{Doorbell, Host};
pub use run::{AgentLoop, is_of_cell, run};
