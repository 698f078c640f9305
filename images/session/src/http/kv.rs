//! The session's key/value map in its heap.
//!
//! One block of bucket heads; one block per entry: `[next][key length][value length][key][value]`, words little-endian. Offsets, no
//! pointers. Entries are made before their value is known and entered when it is complete.

use escape_arena::{Block, Heap, HeapError};

const BUCKETS: usize = 64;
const WORD: usize = 4;
/// Before the key.
const HEADER: usize = 3 * WORD;
/// Entries of one bucket that are looked at: more cannot be in a heap of this size, so a longer chain is a damaged one.
const CHAIN_MAX: usize = 8192;

/// The map; its root is kept in the session's state (0 = no map yet).
pub(crate) struct Map<'a, 'h> {
    pub heap: &'a mut Heap<'h>,
    pub root: &'a mut u32,
}

/// Where a value lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Value {
    pub block: Block,
    /// First byte in the block.
    pub start: usize,
    pub len: usize,
}

/// An entry that is being made.
pub(crate) fn new_entry(heap: &mut Heap<'_>, key: &[u8], room: usize) -> Result<Value, HeapError> {
    let block = heap.alloc(HEADER + key.len() + room)?;
    let bytes = heap.bytes_mut(block)?;
    put(bytes, 0, 0);
    put(bytes, 1, key.len() as u32);
    put(bytes, 2, 0);
    bytes[HEADER..HEADER + key.len()].copy_from_slice(key);
    Ok(Value { block, start: HEADER + key.len(), len: 0 })
}

/// Appends to the value of an entry that is being made; grows it into another block if it must.
pub(crate) fn append(heap: &mut Heap<'_>, value: &mut Value, more: &[u8]) -> Result<(), HeapError> {
    let (end, room) = (value.start + value.len, heap.bytes(value.block)?.len());
    if end + more.len() > room {
        // Twice the room, so that a value of unknown length is copied a few times only; but rather little than nothing.
        let need = end + more.len();
        let larger = heap.alloc(need.max(2 * room)).or_else(|_| heap.alloc(need))?;
        let (from, to) = heap.bytes_pair(value.block, larger)?;
        to[..end].copy_from_slice(&from[..end]);
        heap.free(value.block)?;
        value.block = larger;
    }
    heap.bytes_mut(value.block)?[end..end + more.len()].copy_from_slice(more);
    value.len += more.len();
    Ok(())
}

impl Map<'_, '_> {
    /// The value of a key.
    pub(crate) fn get(&mut self, key: &[u8]) -> Result<Option<Value>, HeapError> {
        Ok(self.find(key)?.map(|(_, value)| value))
    }

    /// Enters a complete entry; `true` if the key is new.
    pub(crate) fn insert(&mut self, value: Value) -> Result<bool, HeapError> {
        if *self.root == 0 {
            let root = self.heap.alloc(BUCKETS * WORD)?;
            self.heap.bytes_mut(root)?.fill(0);
            *self.root = root.offset();
        }
        let mut key = [0u8; 256];
        let len = value.start - HEADER;
        let bytes = self.heap.bytes_mut(value.block)?;
        put(bytes, 2, value.len as u32);
        key[..len].copy_from_slice(&bytes[HEADER..value.start]);
        let new = !self.remove(&key[..len])?;
        let (root, bucket) = (self.root()?, bucket(&key[..len]));
        let head = get(self.heap.bytes(root)?, bucket)?;
        put(self.heap.bytes_mut(value.block)?, 0, head);
        put(self.heap.bytes_mut(root)?, bucket, value.block.offset());
        Ok(new)
    }

    /// Removes a key; `true` if it was there.
    pub(crate) fn remove(&mut self, key: &[u8]) -> Result<bool, HeapError> {
        let Some((before, value)) = self.find(key)? else { return Ok(false) };
        let next = get(self.heap.bytes(value.block)?, 0)?;
        match before {
            Some(before) => put(self.heap.bytes_mut(before)?, 0, next),
            None => {
                let root = self.root()?;
                put(self.heap.bytes_mut(root)?, bucket(key), next);
            }
        }
        self.heap.free(value.block)?;
        Ok(true)
    }

    fn root(&self) -> Result<Block, HeapError> {
        Block::from_offset(*self.root).ok_or(HeapError::NotABlock { offset: 0 })
    }

    /// An entry, and the one before it in its bucket.
    fn find(&self, key: &[u8]) -> Result<Option<(Option<Block>, Value)>, HeapError> {
        if *self.root == 0 {
            return Ok(None);
        }
        let mut at = get(self.heap.bytes(self.root()?)?, bucket(key))?;
        let mut before = None;
        for _ in 0..CHAIN_MAX {
            let Some(block) = Block::from_offset(at) else { return Ok(None) };
            let bytes = self.heap.bytes(block)?;
            let (key_len, len) = (get(bytes, 1)? as usize, get(bytes, 2)? as usize);
            let start = HEADER + key_len;
            if bytes.len() < start.saturating_add(len) {
                return Err(HeapError::Corrupt { offset: at });
            }
            if bytes[HEADER..start] == *key {
                return Ok(Some((before, Value { block, start, len })));
            }
            before = Some(block);
            at = get(bytes, 0)?;
        }
        Err(HeapError::Corrupt { offset: at })
    }
}

fn get(bytes: &[u8], word: usize) -> Result<u32, HeapError> {
    let at = word * WORD;
    let word = bytes.get(at..).and_then(|b| b.first_chunk());
    word.map(|w| u32::from_le_bytes(*w)).ok_or(HeapError::Corrupt { offset: at as u32 })
}

/// Writes a word of a block that was made large enough for it.
fn put(bytes: &mut [u8], word: usize, value: u32) {
    if let Some(place) = bytes.get_mut(word * WORD..).and_then(|b| b.first_chunk_mut()) {
        *place = value.to_le_bytes();
    }
}

/// FNV-1a. A client that makes its keys collide slows down its own session.
fn bucket(key: &[u8]) -> usize {
    let hash = key.iter().fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(*b)).wrapping_mul(0x0100_0193));
    (hash ^ hash >> 16) as usize % BUCKETS
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use alloc::vec;
    use alloc::vec::Vec;

    #[test]
    fn agrees_with_a_sorted_map_until_and_after_it_is_full() {
        let mut memory = vec![0; 32 << 10];
        let mut heap = Heap::format(&mut memory).unwrap();
        let (mut root, mut x, mut full) = (0, 11u64, 0);
        let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        for step in 0..30_000u64 {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let key = alloc::format!("key{}", (x >> 40) % 300).into_bytes();
            if x >> 61 < 3 {
                let removed = Map { heap: &mut heap, root: &mut root }.remove(&key).unwrap();
                assert_eq!(removed, model.remove(&key).is_some());
            } else {
                let data = vec![step as u8; (x >> 33) as usize % 400];
                let put = new_entry(&mut heap, &key, 8).and_then(|mut v| {
                    let appended = data.chunks(50).try_for_each(|c| append(&mut heap, &mut v, c));
                    if let Err(e) = appended {
                        heap.free(v.block).unwrap();
                        return Err(e);
                    }
                    Map { heap: &mut heap, root: &mut root }.insert(v)
                });
                match put {
                    Ok(new) => assert_eq!(new, model.insert(key, data).is_none()),
                    Err(e) => full += u32::from(matches!(e, HeapError::NoRoom { .. })),
                }
            }
            if step % 100 == 0 {
                heap.check().unwrap();
                for (key, data) in &model {
                    let v = Map { heap: &mut heap, root: &mut root }.get(key).unwrap().unwrap();
                    assert_eq!(heap.bytes(v.block).unwrap()[v.start..v.start + v.len], *data);
                }
            }
        }
        assert!(full > 100, "never full");
    }
}
