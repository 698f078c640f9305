//! The cluster state on disk: [`escape_engine::store::StoreState`] kept in one redb file.
//!
//! One copy, one process. Every transaction is on the medium before it is answered; several that wait together share
//! one write. While the file cannot be written there is no failover, and the data path goes on (PROTOCOL.md, event
//! "Store down").
//!
//! What is assumed of the medium: a completed `fdatasync` survives power loss; sectors that were not written may be
//! torn. What is in the file: table `meta` (`format`, `revision`) and table `records` (postcard of the key → checksum
//! of 16 bytes, postcard of the entry). redb checks its own pages at each open; the checksum of a record also covers
//! its key, so that a record at a wrong place is no record.
#![forbid(unsafe_code)]

mod embedded;
mod error;
mod format;

pub use embedded::EmbeddedStore;
pub use error::{CommitError, StoreError};
