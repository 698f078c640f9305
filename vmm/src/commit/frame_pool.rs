//! Buffers for frames that wait: three sizes, recycled, bounded in bytes.

use super::frame::FRAME_LEN_MAX;

/// Sizes of the buffers: small control and request frames, one MTU, one TSO super-frame.
const CLASS_SIZES: [usize; 3] = [320, 2_048, FRAME_LEN_MAX];
/// Unused buffers that are kept for reuse, per size; more go back to the allocator.
const IDLE_MAX: [usize; 3] = [8_192, 4_096, 32];

/// A frame in a buffer of the pool. Give it back by [`FramePool::give`]; dropping it would lose its place in the pool.
#[derive(Debug)]
pub struct Buffer {
    bytes: Box<[u8]>,
    len: usize,
    class: usize,
}

impl Buffer {
    /// The frame.
    pub fn frame(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
    /// Bytes that the buffer counts for in its pool, at least the frame's length.
    pub fn cost(&self) -> usize {
        self.bytes.len()
    }
}

/// A pool of at most `bytes_max` bytes of buffers in use. When it is full, [`FramePool::take`] gives nothing and the
/// caller drops a frame by its own policy. No allocation per frame once the idle buffers are there.
#[derive(Debug)]
pub struct FramePool {
    idle: [Vec<Box<[u8]>>; 3],
    in_use_bytes: usize,
    bytes_max: usize,
}

impl FramePool {
    /// A pool that hands out at most `bytes_max` bytes at a time.
    pub fn new(bytes_max: usize) -> Self {
        Self { idle: Default::default(), in_use_bytes: 0, bytes_max }
    }

    /// Bytes of buffers in use.
    pub fn in_use_bytes(&self) -> usize {
        self.in_use_bytes
    }

    /// What a frame of `len` bytes would cost; `None` if no buffer is that large.
    pub fn cost_of(len: usize) -> Option<usize> {
        CLASS_SIZES.into_iter().find(|size| len <= *size)
    }

    /// Copies `frame` into a buffer; `None` if the pool is full or the frame longer than any frame may be.
    pub fn take(&mut self, frame: &[u8]) -> Option<Buffer> {
        let class = CLASS_SIZES.iter().position(|size| frame.len() <= *size)?;
        let size = *CLASS_SIZES.get(class)?;
        if self.in_use_bytes.checked_add(size)? > self.bytes_max {
            return None;
        }
        let mut bytes = match self.idle.get_mut(class)?.pop() {
            Some(bytes) => bytes,
            None => vec![0; size].into_boxed_slice(),
        };
        bytes.get_mut(..frame.len())?.copy_from_slice(frame);
        self.in_use_bytes += size;
        Some(Buffer { bytes, len: frame.len(), class })
    }

    /// Takes a buffer back.
    pub fn give(&mut self, buffer: Buffer) {
        self.in_use_bytes = self.in_use_bytes.saturating_sub(buffer.bytes.len());
        if let (Some(idle), Some(max)) = (self.idle.get_mut(buffer.class), IDLE_MAX.get(buffer.class))
            && idle.len() < *max
        {
            idle.push(buffer.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn is_bounded_and_recycles() {
        let mut pool = FramePool::new(5_000);
        let a = pool.take(&[1; 1500]).unwrap();
        let b = pool.take(&[2; 1500]).unwrap();
        assert!(pool.take(&[3; 1500]).is_none());
        let c = pool.take(&[3; 300]).unwrap();
        assert_eq!((a.frame(), b.frame().len(), c.frame().len()), (&[1u8; 1500][..], 1500, 300));
        let place = a.bytes.as_ptr();
        pool.give(a);
        let again = pool.take(&[4; 400]).unwrap();
        assert_eq!((again.bytes.as_ptr(), again.frame()), (place, &[4u8; 400][..]));
        for buffer in [again, b, c] {
            pool.give(buffer);
        }
        assert_eq!(pool.in_use_bytes(), 0);
    }

    #[test]
    fn takes_the_longest_frame_and_nothing_longer() {
        let mut pool = FramePool::new(1 << 20);
        assert_eq!(pool.take(&vec![0; FRAME_LEN_MAX]).unwrap().frame().len(), FRAME_LEN_MAX);
        assert!(pool.take(&vec![0; FRAME_LEN_MAX + 1]).is_none());
    }
}
