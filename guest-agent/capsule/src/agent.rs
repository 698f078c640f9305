//! The local agent: the orchestrator's part inside the guest (paper, footnote 3).

use crate::{CapsuleId, CapsuleList, Region, SliceError, SliceKey, SliceRecord, SlotRefs};

/// Takes slices up and apart with the layers of this guest. It keeps nothing: the record is in the slot.
#[derive(Debug)]
pub struct LocalAgent;

/// Length prefix of a capsule's part of the buffer.
const PREFIX: usize = 2;

impl LocalAgent {
    /// `register_capsule(id)`: a layer has made a capsule in these regions of the slot.
    ///
    /// # Errors
    /// [`SliceError::Registered`], [`SliceError::TooMany`], [`SliceError::BadRegion`], [`SliceError::Unknown`] for another slice's id,
    /// [`SliceError::InUse`] once the slice is created.
    pub fn register_capsule(r: &mut SliceRecord, id: CapsuleId, regions: &[Region]) -> Result<(), SliceError> {
        r.register(id, regions)
    }

    /// `deregister_capsule(id)`: the capsule is gone.
    ///
    /// # Errors
    /// [`SliceError::Unknown`]; [`SliceError::InUse`] if others depend on it or the slice is created.
    pub fn deregister_capsule(r: &mut SliceRecord, id: CapsuleId) -> Result<(), SliceError> {
        r.deregister(id)
    }

    /// `set_dep(myid, capsule_id)`: the capsule `my_id` depends on `capsule_id` of a lower layer.
    ///
    /// # Errors
    /// [`SliceError::Unknown`], [`SliceError::Circle`], [`SliceError::InUse`] once the slice is created.
    pub fn set_dep(r: &mut SliceRecord, my_id: CapsuleId, capsule_id: CapsuleId) -> Result<(), SliceError> {
        r.depend(my_id, capsule_id)
    }

    /// `create_slice(slice_key, capsule_id)`, called by the uppermost layer: the slice is what its capsule reaches.
    ///
    /// # Errors
    /// [`SliceError::BadRecord`] if the key is not the record's, [`SliceError::Unknown`], [`SliceError::InUse`] if it exists already.
    pub fn create_slice(r: &mut SliceRecord, key: SliceKey, capsule_id: CapsuleId) -> Result<(), SliceError> {
        if r.key() != key {
            return Err(SliceError::BadRecord { slot: key.slot, incarnation: key.incarnation });
        }
        r.create(capsule_id)
    }

    /// Plugs a slice whose bytes are in its slot, lower layers first. `buffer` is what [`Self::unplug_slice`] filled, or empty.
    ///
    /// # Errors
    /// Of [`SliceRecord::verify`] and of the layers; layers that were plugged before the failure are unplugged again.
    pub fn plug_slice(
        record: &SliceRecord,
        key: SliceKey,
        layers: &mut [&mut dyn CapsuleList],
        mut buffer: &[u8],
    ) -> Result<(), SliceError> {
        record.verify(key)?;
        for (n, id) in record.lower_first().enumerate() {
            let part = split_part(&mut buffer).ok_or(SliceError::ShortBuffer { id });
            let plugged = part.and_then(|part| layer_of(layers, id)?.plug_capsule(id, part));
            if let Err(e) = plugged {
                for id in record.lower_first().take(n) {
                    if let Ok(layer) = layer_of(layers, id) {
                        // Its state stays in the slot; what it would write to a buffer is not wanted.
                        let _ = layer.unplug_capsule(id, &mut []);
                    }
                }
                return Err(e);
            }
        }
        Ok(())
    }

    /// Unplugs a slice, upper layers first, once its references are gone. Returns the bytes written to `buffer`, in the order in
    /// which [`Self::plug_slice`] reads them.
    ///
    /// # Errors
    /// [`SliceError::Referenced`]: try again later. [`SliceError::ShortBuffer`], and those of the layers. In every case the slice is
    /// plugged as before.
    pub fn unplug_slice(
        record: &SliceRecord,
        refs: &SlotRefs,
        layers: &mut [&mut dyn CapsuleList],
        buffer: &mut [u8],
    ) -> Result<usize, SliceError> {
        let slice = record.key();
        let word = refs.word(slice.slot);
        if !word.quiescent() {
            return Err(SliceError::Referenced { slice, refs: word.refs() });
        }
        // Written from the end, because the uppermost layer goes first and is read last.
        let mut start = buffer.len();
        for (n, id) in record.upper_first().enumerate() {
            match unplug_before(layers, id, buffer, start) {
                Ok(at) => start = at,
                Err(e) => {
                    plug_again(record, n, layers, &buffer[start..]);
                    return Err(e);
                }
            }
        }
        buffer.copy_within(start.., 0);
        Ok(buffer.len() - start)
    }
}

/// Unplugs one capsule and writes its part of the buffer so that it ends at `end`; returns where it starts.
fn unplug_before(
    layers: &mut [&mut dyn CapsuleList],
    id: CapsuleId,
    buffer: &mut [u8],
    end: usize,
) -> Result<usize, SliceError> {
    let short = SliceError::ShortBuffer { id };
    let layer = layer_of(layers, id)?;
    if buffer.is_empty() {
        return layer.unplug_capsule(id, &mut []).map(|_| 0);
    }
    // An empty part would tell the layer to throw its state away.
    let room = end.checked_sub(PREFIX).filter(|room| *room > 0).ok_or(short)?;
    let len = layer.unplug_capsule(id, buffer.get_mut(..room).ok_or(short)?)?;
    let at = room.checked_sub(len).ok_or(short)?;
    let prefix = u16::try_from(len).map_err(|_| short)?;
    buffer.copy_within(..len, at + PREFIX);
    buffer[at..at + PREFIX].copy_from_slice(&prefix.to_le_bytes());
    Ok(at)
}

/// Undoes the unplugging of the `n` uppermost capsules, whose parts are all of `buffer`.
fn plug_again(record: &SliceRecord, n: usize, layers: &mut [&mut dyn CapsuleList], mut buffer: &[u8]) {
    let lower = record.upper_first().count() - n;
    for id in record.lower_first().skip(lower) {
        if let (Some(part), Ok(layer)) = (split_part(&mut buffer), layer_of(layers, id)) {
            // It was plugged here a moment ago; a layer that refuses it now has lost it, and the slice with it.
            let _ = layer.plug_capsule(id, part);
        }
    }
}

fn layer_of<'a>(layers: &'a mut [&mut dyn CapsuleList], id: CapsuleId) -> Result<&'a mut dyn CapsuleList, SliceError> {
    for layer in layers {
        if layer.layer() == id.layer {
            return Ok(&mut **layer);
        }
    }
    Err(SliceError::NoLayer { id })
}

/// Takes one capsule's part off the buffer; an empty buffer has an empty part for everybody.
fn split_part<'a>(buffer: &mut &'a [u8]) -> Option<&'a [u8]> {
    if buffer.is_empty() {
        return Some(&[]);
    }
    let (len, rest) = buffer.split_first_chunk::<PREFIX>()?;
    let (part, rest) = rest.split_at_checked(u16::from_le_bytes(*len) as usize)?;
    *buffer = rest;
    Some(part)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    extern crate std;
    use super::*;
    use crate::{CAPSULES_MAX, CapsuleHandle, LayerId};
    use core::cell::RefCell;
    use core::sync::atomic::{AtomicU32, AtomicU64};
    use std::vec::Vec;

    const KEY: SliceKey = SliceKey { slot: 0, incarnation: 9 };
    fn id(layer: u32) -> CapsuleId {
        CapsuleId::new(KEY, LayerId(layer))
    }

    /// A layer that keeps its number, as bytes, outside the slot, and writes down what happens to it.
    struct Toy<'a> {
        layer: u32,
        plugged: bool,
        refuse: bool,
        log: &'a RefCell<Vec<(u32, bool)>>,
    }
    impl CapsuleList for Toy<'_> {
        fn layer(&self) -> LayerId {
            LayerId(self.layer)
        }
        fn get_id(&self, handle: CapsuleHandle) -> Option<CapsuleId> {
            (handle == CapsuleHandle(1) && self.plugged).then_some(id(self.layer))
        }
        fn get_handle(&self, capsule: CapsuleId) -> Option<CapsuleHandle> {
            (self.plugged && capsule == id(self.layer)).then_some(CapsuleHandle(1))
        }
        fn unplug_capsule(&mut self, _: CapsuleId, buffer: &mut [u8]) -> Result<usize, SliceError> {
            if !buffer.is_empty() && buffer.len() < self.layer as usize {
                return Err(SliceError::ShortBuffer { id: id(self.layer) });
            }
            self.plugged = false;
            self.log.borrow_mut().push((self.layer, false));
            let n = (self.layer as usize).min(buffer.len());
            buffer[..n].fill(self.layer as u8);
            Ok(n)
        }
        fn plug_capsule(&mut self, id: CapsuleId, buffer: &[u8]) -> Result<CapsuleHandle, SliceError> {
            if self.refuse {
                return Err(SliceError::Taken { id });
            }
            assert!(buffer.is_empty() || buffer == std::vec![self.layer as u8; self.layer as usize]);
            self.plugged = true;
            self.log.borrow_mut().push((self.layer, true));
            Ok(CapsuleHandle(1))
        }
        fn get_ref(&self, _: CapsuleHandle) -> Result<(), SliceError> {
            Ok(())
        }
        fn put_ref(&self, _: CapsuleHandle) {}
    }

    /// 3 depends on 2 and 1, 2 on 1; 4 is registered but not part of the slice.
    fn record() -> SliceRecord {
        let mut r = SliceRecord::new(KEY);
        for layer in [3, 4, 1, 2] {
            LocalAgent::register_capsule(&mut r, id(layer), &[Region { offset: layer * 100, len: 100 }]).unwrap();
        }
        for (a, b) in [(3, 2), (3, 1), (2, 1)] {
            LocalAgent::set_dep(&mut r, id(a), id(b)).unwrap();
        }
        r
    }

    #[test]
    fn graph_rules() {
        let mut r = record();
        assert_eq!(LocalAgent::set_dep(&mut r, id(1), id(3)), Err(SliceError::Circle { id: id(1) }));
        assert_eq!(LocalAgent::set_dep(&mut r, id(1), id(1)), Err(SliceError::Circle { id: id(1) }));
        assert_eq!(LocalAgent::deregister_capsule(&mut r, id(1)), Err(SliceError::InUse { id: id(1) }));
        assert_eq!(LocalAgent::register_capsule(&mut r, id(1), &[]), Err(SliceError::Registered { id: id(1) }));
        for (offset, len) in [(150, 100), (1000, 0), ((256 << 10) - 1, 2), (u32::MAX, 2)] {
            let e = LocalAgent::register_capsule(&mut r, id(9), &[Region { offset, len }]);
            assert_eq!(e, Err(SliceError::BadRegion { id: id(9), offset, len }));
        }
        let stranger = CapsuleId::new(SliceKey { slot: 0, incarnation: 8 }, LayerId(1));
        assert_eq!(LocalAgent::set_dep(&mut r, id(3), stranger), Err(SliceError::Unknown { id: stranger }));
        assert!(r.verify(KEY).is_err());
        LocalAgent::deregister_capsule(&mut r, id(4)).unwrap();
        LocalAgent::create_slice(&mut r, KEY, id(3)).unwrap();
        assert!(r.lower_first().eq([1, 2, 3].map(id)) && r.upper_first().eq([3, 2, 1].map(id)));
        assert_eq!(LocalAgent::deregister_capsule(&mut r, id(3)), Err(SliceError::InUse { id: id(3) }));
        assert_eq!(r.verify(KEY), Ok(()));
        assert!(r.verify(SliceKey { slot: 1, incarnation: 9 }).is_err());
        let mut many = SliceRecord::new(KEY);
        for layer in 0..CAPSULES_MAX as u32 {
            LocalAgent::register_capsule(&mut many, id(layer), &[]).unwrap();
        }
        assert!(matches!(LocalAgent::register_capsule(&mut many, id(99), &[]), Err(SliceError::TooMany { .. })));
    }

    #[test]
    fn plug_lower_first_unplug_upper_first_and_a_refusal_undoes() {
        let log = RefCell::new(Vec::new());
        let mut toys = [1, 2, 3].map(|layer| Toy { layer, plugged: false, refuse: false, log: &log });
        let (words, holds) = ([AtomicU64::new(0)], [AtomicU32::new(0)]);
        // SAFETY: the arrays outlive `refs` and are used atomically only.
        let refs = unsafe { SlotRefs::new(words.as_ptr(), holds.as_ptr(), 1) };
        let mut r = record();
        LocalAgent::create_slice(&mut r, KEY, id(3)).unwrap();
        let [a, b, c] = &mut toys;
        let mut layers: [&mut dyn CapsuleList; 3] = [c, a, b];
        LocalAgent::plug_slice(&r, KEY, &mut layers, &[]).unwrap();
        let mut buffer = [0; 64];
        refs.get_ref(0).unwrap();
        let early = LocalAgent::unplug_slice(&r, &refs, &mut layers, &mut buffer);
        assert_eq!(early, Err(SliceError::Referenced { slice: KEY, refs: 1 }));
        refs.put_ref(0, || ());
        let n = LocalAgent::unplug_slice(&r, &refs, &mut layers, &mut buffer).unwrap();
        assert_eq!(buffer[..n], [1, 0, 1, 2, 0, 2, 2, 3, 0, 3, 3, 3]);
        LocalAgent::plug_slice(&r, KEY, &mut layers, &buffer[..n]).unwrap();
        let up = [(1, true), (2, true), (3, true)];
        let down = [(3, false), (2, false), (1, false)];
        assert_eq!(log.take(), [up, down, up].concat());
        let short = LocalAgent::unplug_slice(&r, &refs, &mut layers, &mut buffer[..3]);
        assert!(matches!(short, Err(SliceError::ShortBuffer { .. })));
        let short = LocalAgent::unplug_slice(&r, &refs, &mut layers, &mut buffer[..7]);
        assert!(matches!(short, Err(SliceError::ShortBuffer { .. })));
        assert!(layers.iter().all(|l| l.get_handle(CapsuleId::new(KEY, l.layer())).is_some()), "plugged as before");
        toys[2].refuse = true;
        log.take();
        let [a, b, c] = &mut toys;
        let refused = LocalAgent::plug_slice(&r, KEY, &mut [a, b, c], &[]);
        assert_eq!(refused, Err(SliceError::Taken { id: id(3) }));
        assert_eq!(log.take(), [(1, true), (2, true), (1, false), (2, false)]);
    }

    #[test]
    fn damaged_records_are_refused() {
        let mut r = record();
        LocalAgent::create_slice(&mut r, KEY, id(3)).unwrap();
        let good = r;
        let mut refused = 0;
        for at in 0..size_of::<SliceRecord>() {
            for value in [0u8, 1, 7, 0x80, 0xff] {
                let mut r = good;
                // SAFETY: `at` is inside, and any bytes are a record.
                unsafe { (&raw mut r).cast::<u8>().add(at).write(value) };
                refused += u32::from(r.verify(KEY).is_err());
                assert!(r.lower_first().count() <= CAPSULES_MAX);
            }
        }
        assert!(refused > 60, "only {refused}");
    }
}
