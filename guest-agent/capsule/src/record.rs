//! The dependency graph of one slice, as it lies in the slot.

use crate::{CapsuleId, LayerId, REGIONS_MAX, Region, SliceError, SliceKey};
use escape_abi::meta::LiveRange;

/// Capsules that one slice may have.
pub const CAPSULES_MAX: usize = 8;

/// One capsule of the slice. Only integers: any bytes are a value of it, so a record from another machine may be looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
struct Capsule {
    layer: LayerId,
    /// Bit i: depends on capsule i of this record.
    deps: u32,
    regions: [Region; REGIONS_MAX],
}

/// The capsules of one slice and their dependencies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SliceRecord {
    key: SliceKey,
    n_capsules: u32,
    /// Capsules of the slice in the order in which they are plugged, 4 bits each, lowest first; then 0xf.
    order: u32,
    capsules: [Capsule; CAPSULES_MAX],
}

/// `order` of a slice that was not created yet.
const NO_ORDER: u32 = u32::MAX;

impl SliceRecord {
    /// A record without capsules, for a slice that is about to be made in its slot.
    pub fn new(key: SliceKey) -> Self {
        Self { key, order: NO_ORDER, ..Self::default() }
    }

    /// The slice.
    pub const fn key(&self) -> SliceKey {
        self.key
    }

    /// `create_slice` was called.
    pub const fn created(&self) -> bool {
        self.order != NO_ORDER
    }

    fn capsules(&self) -> &[Capsule] {
        self.capsules.get(..self.n_capsules as usize).unwrap_or(&[])
    }

    fn id(&self, i: usize) -> Option<CapsuleId> {
        self.capsules().get(i).map(|c| CapsuleId::new(self.key, c.layer))
    }

    fn index(&self, id: CapsuleId) -> Result<usize, SliceError> {
        let at = self.capsules().iter().position(|c| c.layer == id.layer);
        at.filter(|_| id.slice == self.key).ok_or(SliceError::Unknown { id })
    }

    /// Registers a capsule with its regions; see [`crate::LocalAgent::register_capsule`].
    pub(crate) fn register(&mut self, id: CapsuleId, regions: &[Region]) -> Result<(), SliceError> {
        let too_many = |what, max| SliceError::TooMany { slice: self.key, what, max };
        if id.slice != self.key {
            return Err(SliceError::Unknown { id });
        }
        if self.index(id).is_ok() {
            return Err(SliceError::Registered { id });
        }
        if self.created() {
            return Err(SliceError::InUse { id });
        }
        if regions.len() > REGIONS_MAX {
            return Err(too_many("regions of one capsule", REGIONS_MAX));
        }
        for (i, r) in regions.iter().enumerate() {
            let mut others = self.capsules().iter().flat_map(|c| &c.regions).chain(&regions[..i]).filter(|o| o.len > 0);
            if r.len == 0 || r.end().is_none() || others.any(|o| o.overlaps(*r)) {
                return Err(SliceError::BadRegion { id, offset: r.offset, len: r.len });
            }
        }
        let full = too_many("capsules", CAPSULES_MAX);
        let place = self.capsules.get_mut(self.n_capsules as usize).ok_or(full)?;
        *place = Capsule { layer: id.layer, ..Capsule::default() };
        place.regions[..regions.len()].copy_from_slice(regions);
        self.n_capsules += 1;
        Ok(())
    }

    /// Takes a capsule out again, if nothing depends on it and the slice was not created.
    pub(crate) fn deregister(&mut self, id: CapsuleId) -> Result<(), SliceError> {
        let at = self.index(id)?;
        if self.created() || self.capsules().iter().any(|c| c.deps & 1 << at != 0) {
            return Err(SliceError::InUse { id });
        }
        let n = self.n_capsules as usize;
        self.capsules.copy_within(at + 1..n, at);
        self.n_capsules -= 1;
        self.capsules[n - 1] = Capsule::default();
        let below = (1u32 << at) - 1;
        for c in &mut self.capsules {
            c.deps = c.deps & below | c.deps >> 1 & !below;
        }
        Ok(())
    }

    /// `my_id` depends on `on`, a capsule of a lower layer.
    pub(crate) fn depend(&mut self, my_id: CapsuleId, on: CapsuleId) -> Result<(), SliceError> {
        let (me, other) = (self.index(my_id)?, self.index(on)?);
        if self.created() {
            return Err(SliceError::InUse { id: my_id });
        }
        if self.reach(other) & 1 << me != 0 {
            return Err(SliceError::Circle { id: my_id });
        }
        self.capsules[me].deps |= 1 << other;
        Ok(())
    }

    /// All capsules that capsule `from` needs, itself included, as bits.
    fn reach(&self, from: usize) -> u32 {
        let mut reached = 1u32 << from;
        // Each round reaches one step further; there cannot be more steps than capsules.
        for _ in 0..CAPSULES_MAX {
            for (i, c) in self.capsules().iter().enumerate() {
                if reached & 1 << i != 0 {
                    reached |= c.deps;
                }
            }
        }
        reached
    }

    /// The slice is what `top` reaches.
    pub(crate) fn create(&mut self, top: CapsuleId) -> Result<(), SliceError> {
        let top_at = self.index(top)?;
        if self.created() {
            return Err(SliceError::InUse { id: top });
        }
        self.order = self.sorted(self.reach(top_at)).ok_or(SliceError::Circle { id: top })?;
        Ok(())
    }

    /// The members in dependency order, lowest first, packed as in `order`; `None` if they depend in a circle.
    fn sorted(&self, members: u32) -> Option<u32> {
        let (mut order, mut done, mut place) = (NO_ORDER, 0u32, 0);
        while done != members {
            let ready = |(i, c): &(usize, &Capsule)| (members & !done) & 1 << i != 0 && c.deps & !done == 0;
            let (i, _) = self.capsules().iter().enumerate().find(ready)?;
            order = order & !(0xf << (4 * place)) | (i as u32) << (4 * place);
            place += 1;
            done |= 1 << i;
        }
        Some(order)
    }

    /// Capsules in the order in which they are plugged: what others depend on comes first. Empty before `create_slice`.
    pub fn lower_first(&self) -> impl DoubleEndedIterator<Item = CapsuleId> + '_ {
        (0..CAPSULES_MAX).filter_map(|place| self.id((self.order >> (4 * place) & 0xf) as usize))
    }

    /// Capsules in the order in which they are unplugged: the uppermost first.
    pub fn upper_first(&self) -> impl Iterator<Item = CapsuleId> + '_ {
        self.lower_first().rev()
    }

    /// `range` lies in a region that one of the slice's capsules declared.
    pub fn declares(&self, range: LiveRange) -> bool {
        self.capsules().iter().flat_map(|c| &c.regions).any(|r| r.contains(range))
    }

    /// Checks a record that came with a slot from elsewhere.
    ///
    /// # Errors
    /// [`SliceError::BadRecord`] unless it is a created slice's, with this key, whose order is that of its dependencies.
    pub fn verify(&self, key: SliceKey) -> Result<(), SliceError> {
        let bad = SliceError::BadRecord { slot: key.slot, incarnation: key.incarnation };
        let n = self.n_capsules as usize;
        if self.key != key || n == 0 || n > CAPSULES_MAX || !self.created() {
            return Err(bad);
        }
        let known = (1u32 << n) - 1;
        if self.capsules().iter().any(|c| c.deps & !known != 0) {
            return Err(bad);
        }
        let mut members = 0;
        for place in 0..CAPSULES_MAX {
            match self.order >> (4 * place) & 0xf {
                i if (i as usize) < n => members |= 1 << i,
                0xf => {}
                _ => return Err(bad),
            }
        }
        if self.sorted(members) == Some(self.order) { Ok(()) } else { Err(bad) }
    }
}
