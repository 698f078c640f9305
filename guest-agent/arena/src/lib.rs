//! The slice heap: an allocator whose every byte, bookkeeping included, lies in the slot.
//!
//! A slice that moves to another guest brings its heap with it, so the heap may not keep anything outside the bytes that it
//! manages. Blocks are named by their offset in the heap ([`Block`]), never by an address: the heap is right wherever its bytes lie.
//! Everything below [`Heap::extent`] is the heap's state, everything above it is dead and need not be saved. Blocks are
//! placed as low as a bounded search finds room, and the last block's end is the extent, so it shrinks when memory is freed.
//!
//! The bytes may come from another machine. They are read with bounds checks throughout, so that a damaged heap is an
//! error ([`HeapError::Corrupt`]) of that slice and never a panic or a wild access.
#![no_std]
#![forbid(unsafe_code)]

mod error;
mod heap;
mod words;

pub use error::HeapError;
pub use heap::{Block, Heap, OVERHEAD, SIZE_MIN};
