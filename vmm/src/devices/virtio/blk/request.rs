//! A request as its chain describes it (virtio 1.2, section 5.2.6): a head of 16 bytes, data, and a byte for the status.

use super::config::SECTOR;
use crate::devices::virtio::chain::{Chain, ChainError, DESCRIPTORS_PER_CHAIN_MAX};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

const HEAD_BYTES: u32 = 16;
/// Kinds.
const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Disk to memory.
    Read,
    /// Memory to disk.
    Write,
    /// Make what was written last.
    Flush,
    /// The disk's name.
    Name,
    /// Something else.
    Unknown,
}

/// A piece of guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where.
    pub address: GuestAddress,
    /// Bytes.
    pub len: u32,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is wanted.
    pub kind: Kind,
    /// The first sector.
    pub sector: u64,
    /// The data, in order; [`DESCRIPTORS_PER_CHAIN_MAX`] pieces at most.
    pub data: Vec<Segment>,
    /// Where the status goes.
    pub status: GuestAddress,
}

impl Request {
    /// Reads a chain. The head must be whole in the first descriptor and the status alone in the last, as all drivers have it.
    pub fn of(chain: Chain<'_>, memory: &GuestMemoryMmap) -> Result<Self, ChainError> {
        let descriptors: Vec<_> = chain.take(DESCRIPTORS_PER_CHAIN_MAX).collect();
        let [head, data @ .., status] = descriptors.as_slice() else { return Err(ChainError::TooShort) };
        if status.has_next() {
            return Err(ChainError::Endless);
        }
        if head.is_write_only() || !status.is_write_only() {
            return Err(ChainError::Direction);
        }
        if head.len() != HEAD_BYTES || status.len() != 1 {
            return Err(ChainError::TooShort);
        }
        let word = |at: u64| memory.read_obj::<u32>(GuestAddress(head.addr().0.wrapping_add(at)));
        let kind = word(0).map_err(|_| ChainError::Address)?;
        let (low, high) = (word(8).map_err(|_| ChainError::Address)?, word(12).map_err(|_| ChainError::Address)?);
        let kind = match u32::from_le(kind) {
            IN => Kind::Read,
            OUT => Kind::Write,
            FLUSH => Kind::Flush,
            GET_ID => Kind::Name,
            _ => Kind::Unknown,
        };
        let to_guest = matches!(kind, Kind::Read | Kind::Name);
        if kind != Kind::Unknown && data.iter().any(|d| d.is_write_only() != to_guest) {
            return Err(ChainError::Direction);
        }
        Ok(Self {
            kind,
            sector: u64::from(u32::from_le(low)) | u64::from(u32::from_le(high)) << 32,
            data: data.iter().map(|d| Segment { address: d.addr(), len: d.len() }).collect(),
            status: status.addr(),
        })
    }

    /// Bytes of data.
    pub fn bytes(&self) -> u64 {
        self.data.iter().map(|segment| u64::from(segment.len)).sum()
    }

    /// Where on a disk of so many sectors the data lies, bytes; `None` if it does not lie there, or is no number of sectors.
    pub fn place(&self, sectors: u64) -> Option<u64> {
        let bytes = self.bytes();
        let end = self.sector.checked_add(bytes / SECTOR)?;
        let fits = bytes > 0 && bytes.is_multiple_of(SECTOR) && end <= sectors;
        if fits { self.sector.checked_mul(SECTOR) } else { None }
    }
}
