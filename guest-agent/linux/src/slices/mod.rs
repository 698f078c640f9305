//! Slices of this guest's processes.
//!
//! ```text
//! kernel answers a SYN → [host] Opening → slot, first state, Bind → the answer leaves with the first checkpoint
//! process accepts → Adopt → works on the slice in turns → Closing → the rest is sent, the slice ends → [host] SlotFree
//! a machine has died → [host] Plug → connection restored (its client asked, if it may have much) → the process that serves its port
//! ```

mod agent;
mod asking;
mod closing;
mod host;
mod places;
mod processes;
mod route;
mod run;
mod syn_answer;
#[cfg(test)]
mod tests;
mod words;

pub use agent::{Agent, Devices};
pub use host::{Doorbell, Host};
pub use run::{AgentLoop, is_of_cell, run};
