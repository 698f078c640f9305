//! Transactions: compare versions, then put and delete records.

use super::record::{Key, Record};
use escape_proto::Revision;
use serde::{Deserialize, Serialize};

/// A record must still be at this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Compare {
    /// The record.
    pub key: Key,
    /// Revision of the transaction that wrote it last; 0 = there is none.
    pub version: Revision,
}

/// All compares hold → all puts are made, at one revision; else none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Txn {
    /// What must still be so.
    pub compare: Vec<Compare>,
    /// What will be.
    pub put: Vec<Record>,
    /// What will not be any more.
    pub delete: Vec<Key>,
}

/// What a transaction changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// The store's revision after it; the version of all records put.
    pub revision: Revision,
    /// The records put.
    pub put: Vec<Record>,
    /// The records deleted.
    pub deleted: Vec<Key>,
}

/// A compare failed; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {key:?} is at version {found}, expected {expected}")]
pub struct Conflict {
    /// The record.
    pub key: Key,
    /// What the transaction expected.
    pub expected: Revision,
    /// What is there.
    pub found: Revision,
}
