//! Checkpoints: their place in a slice's history, and what making, applying and plugging one comes to.

use super::chain::ChainHash;
use super::connections::Connections;
use super::page_set::PageSet;

/// Place of a checkpoint in its slice's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Its number, from 1; grows with each capture.
    pub number: u64,
    /// The checkpoint that it is a delta to; 0 for a full copy.
    pub base: u64,
    /// Its hash, and what an acknowledgement must repeat: `BLAKE3(chain link of base ‖ body)`, of a full copy
    /// `BLAKE3(32 zero bytes ‖ body)`.
    pub hash: ChainHash,
}

/// What applying a checkpoint changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The slice's connections: the mirror may forget what lies before their `rcv_nxt`.
    pub connections: Connections,
    /// Those of the checkpoint before, if there was one.
    pub before: Connections,
    /// Generation that is safe here now.
    pub generation: u64,
    /// The slice's connection is finished.
    pub closed: bool,
    /// A full copy.
    pub full: bool,
    /// Pages of the slot that were not live in any checkpoint before: to be prefaulted, outside of the commit path.
    pub new_pages: PageSet,
    /// To be repeated in the acknowledgement.
    pub hash: ChainHash,
}

/// A checkpoint that was encoded from a slot's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Its place in the slice's history.
    pub checkpoint: Checkpoint,
    /// It is a full copy.
    pub full: bool,
    /// Lines in it.
    pub lines: usize,
}

/// What a plug put into the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Bytes of live ranges.
    pub bytes: usize,
    /// Generation that the slot's word has now.
    pub generation: u64,
}
