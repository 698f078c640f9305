//! What tests of known servers stand on: guests that share this machine's kernel, each with an agent of its own; the host's side of their
//! control pages is the VMM's.
#![allow(clippy::unwrap_used)]

mod ears;
mod guest;
mod http;
mod scene;

pub use ears::Ears;
pub use guest::{Guest, Server, Slice};
pub use http::{body, get};
pub use scene::on_stage;

use std::time::Duration;

/// Slots of a guest.
pub const N_SLOTS: u32 = 64;
/// The servers' port.
pub const PORT: u16 = 8080;
/// Longest wait for anything.
pub const LIMIT: Duration = Duration::from_secs(10);
