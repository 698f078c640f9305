//! The allocator: boundary tags, and free lists by powers of two.
//!
//! ```text
//! 0          magic | size | top | last | used | 3 zero words | free-list heads, one per class
//! FIRST      block block block ... top (nothing above is state)
//! block      [size | in-use bit][size of the block before][payload ...]
//! free block [size             ][size of the block before][next free][previous free] ...
//! ```
//! Two free blocks are never neighbours, and the block that ends at `top` is never free.

use crate::HeapError;
use crate::words::{load, store};

/// "SHE1" little-endian.
const MAGIC: u32 = u32::from_le_bytes(*b"SHE1");
const AT_MAGIC: u32 = 0;
const AT_SIZE: u32 = 4;
const AT_TOP: u32 = 8;
/// Size of the block that ends at the top; 0 = there is none.
const AT_LAST: u32 = 12;
const AT_USED: u32 = 16;
const AT_HEADS: u32 = 32;
const CLASSES: u32 = 16;
const FIRST: u32 = AT_HEADS + 4 * CLASSES;

const GRANULE: u32 = 16;
const BLOCK_MIN: u32 = 32;
/// Bytes of a block that are not the caller's.
pub const OVERHEAD: usize = 8;
const HEADER: u32 = OVERHEAD as u32;
const IN_USE: u32 = 1;
/// Free blocks of the best class that are looked at before a larger class is taken.
const PROBES_MAX: u32 = 16;
/// Bytes of the smallest heap.
pub const SIZE_MIN: usize = (FIRST + BLOCK_MIN) as usize;
const SIZE_MAX: usize = 1 << 24;

/// A block in use: the offset of its first byte in the heap. 0 is never a block, so 0 can say "none" in slice state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Block(u32);

impl Block {
    /// A block from an offset that was stored in slice state; it is checked at each use.
    pub const fn from_offset(offset: u32) -> Option<Self> {
        if offset == 0 { None } else { Some(Self(offset)) }
    }
    /// The offset, to be stored in slice state.
    pub const fn offset(self) -> u32 {
        self.0
    }
}

/// A view of a slice's heap; nothing of it is kept in here.
#[derive(Debug)]
pub struct Heap<'a> {
    bytes: &'a mut [u8],
}

impl<'a> Heap<'a> {
    /// Makes `bytes` an empty heap. Only the first 96 bytes are written.
    ///
    /// # Errors
    /// [`HeapError::BadSize`] below [`SIZE_MIN`] or above 16 MiB.
    pub fn format(bytes: &'a mut [u8]) -> Result<Self, HeapError> {
        let size = bytes.len();
        if !(SIZE_MIN..=SIZE_MAX).contains(&size) {
            return Err(HeapError::BadSize { size });
        }
        bytes[..FIRST as usize].fill(0);
        for (at, value) in [(AT_MAGIC, MAGIC), (AT_SIZE, size as u32), (AT_TOP, FIRST)] {
            store(bytes, at, value)?;
        }
        Ok(Self { bytes })
    }

    /// Takes up a heap that was formatted before, here or on another machine.
    ///
    /// # Errors
    /// [`HeapError::Corrupt`] if the header is not one of a heap of exactly this size.
    pub fn attach(bytes: &'a mut [u8]) -> Result<Self, HeapError> {
        let corrupt = |offset| Err(HeapError::Corrupt { offset });
        if load(bytes, AT_MAGIC)? != MAGIC {
            return corrupt(AT_MAGIC);
        }
        if load(bytes, AT_SIZE)? as usize != bytes.len() {
            return corrupt(AT_SIZE);
        }
        let top = load(bytes, AT_TOP)?;
        if top < FIRST || top as usize > bytes.len() {
            return corrupt(AT_TOP);
        }
        Ok(Self { bytes })
    }

    /// Bytes from the heap's start that are state: everything at or above is dead.
    pub fn extent(&self) -> usize {
        load(self.bytes, AT_TOP).map_or(self.bytes.len(), |top| (top as usize).min(self.bytes.len()))
    }

    /// Bytes in use, block headers included.
    pub fn used(&self) -> usize {
        load(self.bytes, AT_USED).unwrap_or(0) as usize
    }

    /// A block of at least `len` bytes; its content is undefined.
    ///
    /// # Errors
    /// [`HeapError::NoRoom`] (nothing changed), or [`HeapError::Corrupt`].
    pub fn alloc(&mut self, len: usize) -> Result<Block, HeapError> {
        let no_room = HeapError::NoRoom { wanted: len, used: self.used(), size: self.bytes.len() };
        if len > self.bytes.len() {
            return Err(no_room);
        }
        let need = (len as u32 + HEADER).next_multiple_of(GRANULE).max(BLOCK_MIN);
        let at = match self.find_free(need)? {
            Some(at) => self.take_free(at, need)?,
            None => self.take_top(need)?.ok_or(no_room)?,
        };
        let size = self.size_of(at)?;
        self.put(at, size | IN_USE)?;
        self.put(AT_USED, self.get(AT_USED)?.wrapping_add(size))?;
        Ok(Block(at + HEADER))
    }

    /// Gives a block back.
    ///
    /// # Errors
    /// [`HeapError::NotABlock`] if it is not in use, [`HeapError::Corrupt`].
    pub fn free(&mut self, block: Block) -> Result<(), HeapError> {
        let (mut at, mut size) = self.locate(block)?;
        self.put(AT_USED, self.get(AT_USED)?.wrapping_sub(size))?;
        let next = at + size;
        if next < self.get(AT_TOP)? && self.get(next)? & IN_USE == 0 {
            self.unlink(next)?;
            size += self.size_of(next)?;
        }
        let before = self.get(at + 4)?;
        if before != 0 {
            let prev = at.checked_sub(before).filter(|p| *p >= FIRST).ok_or(HeapError::Corrupt { offset: at })?;
            if self.get(prev)? & IN_USE == 0 {
                self.unlink(prev)?;
                size += before;
                at = prev;
            }
        }
        if at + size == self.get(AT_TOP)? {
            self.put(AT_TOP, at)?;
            return self.put(AT_LAST, self.get(at + 4)?);
        }
        self.put(at, size)?;
        self.put(at + size + 4, size)?;
        self.link(at, size)
    }

    /// The bytes of a block in use: at least as many as were asked for.
    ///
    /// # Errors
    /// [`HeapError::NotABlock`].
    pub fn bytes(&self, block: Block) -> Result<&[u8], HeapError> {
        let (at, size) = self.locate(block)?;
        self.bytes.get((at + HEADER) as usize..(at + size) as usize).ok_or(HeapError::Corrupt { offset: at })
    }

    /// The bytes of a block in use, to be changed.
    ///
    /// # Errors
    /// [`HeapError::NotABlock`].
    pub fn bytes_mut(&mut self, block: Block) -> Result<&mut [u8], HeapError> {
        let (at, size) = self.locate(block)?;
        self.bytes.get_mut((at + HEADER) as usize..(at + size) as usize).ok_or(HeapError::Corrupt { offset: at })
    }

    /// Two different blocks at once: the first to be read, the second to be changed.
    ///
    /// # Errors
    /// [`HeapError::NotABlock`], also if they are the same block.
    pub fn bytes_pair(&mut self, from: Block, to: Block) -> Result<(&[u8], &mut [u8]), HeapError> {
        let (a, b) = (self.locate(from)?, self.locate(to)?);
        let range = |(at, size): (u32, u32)| (at + HEADER) as usize..(at + size) as usize;
        let pair = self.bytes.get_disjoint_mut([range(a), range(b)]);
        let [from, to] = pair.map_err(|_| HeapError::NotABlock { offset: to.0 })?;
        Ok((from, to))
    }

    /// Walks the whole heap and checks every invariant; for tests and after a suspicious plug.
    ///
    /// # Errors
    /// [`HeapError::Corrupt`] at the first contradiction.
    pub fn check(&self) -> Result<(), HeapError> {
        let (top, mut at, mut before, mut used, mut free) = (self.get(AT_TOP)?, FIRST, 0, 0, 0u32);
        let mut before_free = false;
        while at < top {
            let (size, in_use) = (self.size_of(at)?, self.get(at)? & IN_USE != 0);
            if self.get(at + 4)? != before || (before_free && !in_use) {
                return Err(HeapError::Corrupt { offset: at });
            }
            used += if in_use { size } else { 0 };
            free += u32::from(!in_use);
            (before, before_free) = (size, !in_use);
            at += size;
        }
        let mut listed = 0u32;
        for class in 0..CLASSES {
            let mut at = self.get(AT_HEADS + 4 * class)?;
            while at != 0 && listed <= free {
                if self.get(at)? & IN_USE != 0 || class_of(self.size_of(at)?) != class {
                    return Err(HeapError::Corrupt { offset: at });
                }
                listed += 1;
                at = self.get(at + 8)?;
            }
        }
        let sound = at == top && before == self.get(AT_LAST)? && !before_free && listed == free;
        if sound && used == self.get(AT_USED)? { Ok(()) } else { Err(HeapError::Corrupt { offset: top }) }
    }

    fn get(&self, at: u32) -> Result<u32, HeapError> {
        load(self.bytes, at)
    }
    fn put(&mut self, at: u32, value: u32) -> Result<(), HeapError> {
        store(self.bytes, at, value)
    }

    /// Size of the block at `at`, checked to lie below the top.
    fn size_of(&self, at: u32) -> Result<u32, HeapError> {
        let size = self.get(at)? & !(GRANULE - 1);
        let end = at.checked_add(size).ok_or(HeapError::Corrupt { offset: at })?;
        let sound = at >= FIRST && at.is_multiple_of(GRANULE) && size >= BLOCK_MIN && end <= self.get(AT_TOP)?;
        if sound { Ok(size) } else { Err(HeapError::Corrupt { offset: at }) }
    }

    /// Header offset and size of a block in use.
    fn locate(&self, block: Block) -> Result<(u32, u32), HeapError> {
        let wrong = HeapError::NotABlock { offset: block.0 };
        let at = block.0.checked_sub(HEADER).ok_or(wrong)?;
        let size = self.size_of(at).map_err(|_| wrong)?;
        if self.get(at)? & IN_USE == 0 { Err(wrong) } else { Ok((at, size)) }
    }

    fn find_free(&self, need: u32) -> Result<Option<u32>, HeapError> {
        let best = class_of(need);
        let mut at = self.get(AT_HEADS + 4 * best)?;
        for _ in 0..PROBES_MAX {
            if at == 0 {
                break;
            }
            if self.size_of(at)? >= need {
                return Ok(Some(at));
            }
            at = self.get(at + 8)?;
        }
        for class in best + 1..CLASSES {
            let head = self.get(AT_HEADS + 4 * class)?;
            if head != 0 {
                return Ok(Some(head));
            }
        }
        Ok(None)
    }

    /// Takes `need` bytes from the start of a free block; what remains is a free block again.
    fn take_free(&mut self, at: u32, need: u32) -> Result<u32, HeapError> {
        let size = self.size_of(at)?;
        self.unlink(at)?;
        let rest = size.checked_sub(need).ok_or(HeapError::Corrupt { offset: at })?;
        if rest >= BLOCK_MIN {
            self.put(at, need)?;
            self.put(at + need, rest)?;
            self.put(at + need + 4, need)?;
            // A free block never ends at the top, so there is a block behind it.
            self.put(at + size + 4, rest)?;
            self.link(at + need, rest)?;
        }
        Ok(at)
    }

    fn take_top(&mut self, need: u32) -> Result<Option<u32>, HeapError> {
        let at = self.get(AT_TOP)?;
        let end = at + need;
        if end as usize > self.bytes.len() {
            return Ok(None);
        }
        self.put(at, need)?;
        self.put(at + 4, self.get(AT_LAST)?)?;
        self.put(AT_TOP, end)?;
        self.put(AT_LAST, need)?;
        Ok(Some(at))
    }

    fn link(&mut self, at: u32, size: u32) -> Result<(), HeapError> {
        let head_at = AT_HEADS + 4 * class_of(size);
        let head = self.get(head_at)?;
        self.put(at + 8, head)?;
        self.put(at + 12, 0)?;
        if head != 0 {
            self.put(head.saturating_add(12), at)?;
        }
        self.put(head_at, at)
    }

    fn unlink(&mut self, at: u32) -> Result<(), HeapError> {
        let (next, prev) = (self.get(at + 8)?, self.get(at + 12)?);
        if next != 0 {
            self.put(next.saturating_add(12), prev)?;
        }
        let from = if prev == 0 { AT_HEADS + 4 * class_of(self.size_of(at)?) } else { prev.saturating_add(8) };
        self.put(from, next)
    }
}

/// Class of a block size: blocks of class c have 32·2^c bytes or more, less than twice that.
fn class_of(size: u32) -> u32 {
    (size / BLOCK_MIN).max(1).ilog2().min(CLASSES - 1)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    extern crate std;
    use super::*;
    use std::{vec, vec::Vec};

    /// xorshift64*: the test's own randomness, so that a printed seed replays it.
    struct Rng(u64);
    impl Rng {
        fn below(&mut self, n: usize) -> usize {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % n
        }
    }

    #[test]
    fn random_blocks_keep_their_bytes_also_in_a_copy_without_the_dead_part() {
        let seed = std::env::var("ARENA_SEED").map_or(0x5eed, |s| s.parse().unwrap());
        std::println!("replay with ARENA_SEED={seed}");
        let mut rng = Rng(seed);
        let mut memory = vec![0u8; 64 << 10];
        Heap::format(&mut memory).unwrap();
        let mut live: Vec<(Block, u8, usize)> = Vec::new();
        for step in 0..20_000 {
            if step % 1000 == 999 {
                // Move: only what the heap calls its state travels, the rest is garbage on the other side.
                let extent = Heap::attach(&mut memory).unwrap().extent();
                let mut other = vec![0xAA; memory.len()];
                other[..extent].copy_from_slice(&memory[..extent]);
                memory = other;
            }
            let mut heap = Heap::attach(&mut memory).unwrap();
            if live.is_empty() || rng.below(100) < 52 {
                let len = if rng.below(10) == 0 { rng.below(9000) } else { rng.below(200) };
                match heap.alloc(len) {
                    Ok(b) => {
                        let tag = step as u8;
                        heap.bytes_mut(b).unwrap()[..len].fill(tag);
                        live.push((b, tag, len));
                    }
                    Err(e) => assert!(matches!(e, HeapError::NoRoom { .. }), "{e}"),
                }
            } else {
                let (b, tag, len) = live.swap_remove(rng.below(live.len()));
                assert!(heap.bytes(b).unwrap()[..len].iter().all(|x| *x == tag), "step {step}");
                heap.free(b).unwrap();
            }
            heap.check().unwrap();
        }
        let mut heap = Heap::attach(&mut memory).unwrap();
        for (b, ..) in live {
            heap.free(b).unwrap();
        }
        assert_eq!((heap.used(), heap.extent()), (0, FIRST as usize));
    }

    #[test]
    fn full_heap_refuses_and_stays_sound() {
        let mut memory = vec![0; 4096];
        let mut heap = Heap::format(&mut memory).unwrap();
        let mut blocks = Vec::new();
        while let Ok(b) = heap.alloc(100) {
            blocks.push(b);
        }
        assert!(blocks.len() > 30);
        assert!(matches!(heap.alloc(usize::MAX), Err(HeapError::NoRoom { .. })));
        heap.check().unwrap();
        heap.free(blocks[3]).unwrap();
        assert_eq!(heap.alloc(100).unwrap(), blocks[3]);
    }

    #[test]
    fn what_is_no_block_is_refused() {
        let mut memory = vec![0; 4096];
        let mut heap = Heap::format(&mut memory).unwrap();
        let b = heap.alloc(40).unwrap();
        let _behind = heap.alloc(40).unwrap();
        heap.free(b).unwrap();
        assert_eq!(heap.free(b), Err(HeapError::NotABlock { offset: b.offset() }));
        for offset in [1, 7, 8, 96, 4095, u32::MAX] {
            assert!(heap.bytes(Block(offset)).is_err(), "{offset}");
        }
        assert!(heap.bytes_pair(_behind, _behind).is_err());
    }

    #[test]
    fn damaged_bytes_are_errors_not_panics() {
        let mut rng = Rng(99);
        for round in 0..3000 {
            let mut memory = vec![0; 2048];
            let mut heap = Heap::format(&mut memory).unwrap();
            let blocks: Vec<Block> = (0..10).map(|i| heap.alloc(i * 9).unwrap()).collect();
            heap.free(blocks[4]).unwrap();
            heap.free(blocks[7]).unwrap();
            for _ in 0..1 + round % 4 {
                let at = rng.below(700);
                memory[at] = rng.below(256) as u8;
            }
            if let Ok(mut heap) = Heap::attach(&mut memory) {
                let _ = heap.check();
                for b in &blocks {
                    let _ = heap.free(*b);
                    let _ = heap.alloc(rng.below(300));
                }
            }
        }
    }
}
