//! Bounds-checked little-endian words in the heap's bytes.

use crate::HeapError;

/// Reads the word at `offset`.
pub(crate) fn load(bytes: &[u8], offset: u32) -> Result<u32, HeapError> {
    let at = offset as usize;
    bytes.get(at..).and_then(|b| b.first_chunk()).map(|w| u32::from_le_bytes(*w)).ok_or(HeapError::Corrupt { offset })
}

/// Writes the word at `offset`.
pub(crate) fn store(bytes: &mut [u8], offset: u32, value: u32) -> Result<(), HeapError> {
    let at = offset as usize;
    let word = bytes.get_mut(at..).and_then(|b| b.first_chunk_mut()).ok_or(HeapError::Corrupt { offset })?;
    *word = value.to_le_bytes();
    Ok(())
}
