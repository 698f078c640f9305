//! The store's contents as a pure state machine; the file behind it is another crate's.

mod record;
mod state;
mod txn;

pub use record::{ClusterRecord, Key, Record};
pub use state::{Entry, StoreState};
pub use txn::{Changes, Compare, Conflict, Txn};
