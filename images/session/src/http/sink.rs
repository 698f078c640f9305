//! Where request bodies go.

use crate::http::head::Framing;
use crate::http::heap::SliceHeap;
use crate::http::kv::{self, Value};
use crate::pattern;
use escape_arena::{Block, HeapError};

/// Bytes of a value; larger ones get 413.
pub(crate) const VALUE_MAX: u64 = 128 << 10;

/// Where a body goes.
#[derive(Clone, Copy, Debug)]
#[repr(C, u32)]
pub(crate) enum Sink {
    /// Nowhere; it is only hashed.
    Hash,
    /// Compared with the pattern: bytes so far, of these wrong.
    Check { bytes: u64, wrong: u64 },
    /// Into an entry of the map.
    Store { block: u32, start: u32, len: u32 },
    /// It does not fit (507).
    Full,
}

impl Sink {
    /// An entry for the value that is about to come.
    pub(crate) fn store(heap: &mut SliceHeap<'_>, key: &[u8], framing: Framing) -> Self {
        let room = match framing {
            Framing::Length(n) => usize::try_from(n).unwrap_or(usize::MAX),
            _ => 256,
        };
        match heap.with(|heap| kv::new_entry(heap, key, room)) {
            Ok(v) => Sink::Store { block: v.block.offset(), start: v.start as u32, len: 0 },
            Err(_) => Sink::Full,
        }
    }

    /// Takes the next bytes.
    pub(crate) fn absorb(&mut self, heap: &mut SliceHeap<'_>, data: &[u8]) {
        match self {
            Sink::Hash | Sink::Full => {}
            Sink::Check { bytes, wrong } => {
                *wrong += pattern::count_wrong(data, *bytes);
                *bytes += data.len() as u64;
            }
            Sink::Store { block, start, len } => {
                if u64::from(*len) > VALUE_MAX {
                    return;
                }
                let stored = heap.with(|heap| {
                    let block = Block::from_offset(*block).ok_or(HeapError::NotABlock { offset: 0 })?;
                    let mut value = Value { block, start: *start as usize, len: *len as usize };
                    let r = kv::append(heap, &mut value, data);
                    if r.is_err() {
                        heap.free(value.block)?;
                    }
                    r.map(|()| value)
                });
                *self = match stored {
                    Ok(v) => Sink::Store { block: v.block.offset(), start: *start, len: v.len as u32 },
                    Err(_) => Sink::Full,
                };
            }
        }
    }

    /// More than a value may have.
    pub(crate) fn too_large(&self) -> bool {
        matches!(self, Self::Store { len, .. } if u64::from(*len) > VALUE_MAX)
    }

    /// Gives up a body that is not read to its end.
    pub(crate) fn free(self, heap: &mut SliceHeap<'_>) {
        if let Sink::Store { block, .. } = self {
            // A damaged heap shows at the next request that needs it.
            let _ = heap.with(|heap| Block::from_offset(block).map_or(Ok(()), |b| heap.free(b)));
        }
    }
}
