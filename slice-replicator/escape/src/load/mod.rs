//! The clients of a drill: an open-loop load generator over real kernel TCP connections.
//!
//! Every session sends on a fixed schedule whether or not replies come, and checks every byte that comes back against
//! its own computation of what the session must be: status, `X-Requests`, `X-Chain`, bodies. Times are counted from
//! the *scheduled* sending, so a service that stalls cannot hide the requests that it delayed.
//!
//! | file | what |
//! |---|---|
//! | `plan`, `schedule`, `script`, `seeded` | which session sends what, when |
//! | `request`, `expected`, `reply`, `body_check`, `chain`, `pattern` | the session protocol and its checks |
//! | `http_session`, `stream_session` | one session, bytes in and out, no socket |
//! | `connection`, `timer`, `generator`, `turns`, `events`, `ending` | sockets, the loop, the phases |
//! | `ledger`, `history`, `fault_watch`, `violation` | what was seen |
//! | `generator_handle`, `command`, `live`, `file_table` | one generator from outside |
//! | `handle`, `outcome` | the drill's side |

mod body_check;
pub mod chain;
mod clock;
mod command;
mod connection;
mod ending;
mod error;
mod events;
mod expected;
mod fault_watch;
#[allow(unsafe_code)] // unshare(2), and the descriptors that it leaves behind.
mod file_table;
mod generator;
mod generator_handle;
mod handle;
mod history;
mod http_session;
mod ledger;
mod live;
mod outcome;
pub mod pattern;
mod plan;
mod reply;
mod request;
mod schedule;
mod script;
mod seeded;
mod session_facts;
mod stream_session;
mod timer;
mod turns;
mod violation;

pub use command::{Nodes, RoundLoad};
pub use ending::REPLY_LIMIT_US;
pub use error::LoadError;
pub use fault_watch::FirstByte;
pub use generator_handle::Enter;
pub use handle::LoadHandle;
pub(crate) use handle::raise_file_limit;
pub use outcome::LoadOutcome;
pub use plan::LoadPlan;
pub use seeded::Seeded;
pub use violation::{Tally, Violation};
