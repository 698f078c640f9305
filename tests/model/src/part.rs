//! Parts of a state: shared between states, hashed once, kept once.

use std::collections::HashMap;
use std::hash::Hash;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A part of a state. Neighbouring states differ in one or two parts; the others are the same memory.
#[derive(Clone, Debug)]
pub struct Part<T> {
    value: Arc<T>,
    hash: u64,
    changed: bool,
}

/// Something of which equal values are kept once, whatever state they belong to.
pub trait Shared: Hash + Clone + Send + Sync + 'static {
    /// Where they are kept.
    fn table() -> &'static Table<Self>;
}

/// Equal values by hash. What no state holds any more is thrown out now and then.
#[derive(Debug)]
pub struct Table<T> {
    shards: [Mutex<Shard<T>>; SHARDS],
}

#[derive(Debug)]
struct Shard<T> {
    values: HashMap<u64, Weak<T>, ahash::RandomState>,
    sweep_at: usize,
}

const SHARDS: usize = 64;
const SWEEP_AT_LEAST: usize = 4_096;

/// The same in every run: counterexamples are found again by their hashes.
const fn seeds() -> ahash::RandomState {
    ahash::RandomState::with_seeds(0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344)
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        let shard = || Mutex::new(Shard { values: HashMap::with_hasher(seeds()), sweep_at: SWEEP_AT_LEAST });
        Self { shards: std::array::from_fn(|_| shard()) }
    }
}

impl<T> Table<T> {
    fn keep(&self, hash: u64, value: Arc<T>) -> Arc<T> {
        let mut shard = self.shards[hash as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = shard.values.get(&hash).and_then(Weak::upgrade) {
            return known;
        }
        if shard.values.len() >= shard.sweep_at {
            shard.values.retain(|_, v| v.strong_count() != 0);
            shard.sweep_at = SWEEP_AT_LEAST.max(2 * shard.values.len());
        }
        shard.values.insert(hash, Arc::downgrade(&value));
        value
    }
}

impl<T: Shared> Part<T> {
    /// A part.
    pub fn new(value: T) -> Self {
        let mut part = Self { value: Arc::new(value), hash: 0, changed: true };
        part.seal();
        part
    }

    /// To change it. [`Self::seal`] before the state is looked at as a whole.
    pub fn edit(&mut self) -> &mut T {
        self.changed = true;
        Arc::make_mut(&mut self.value)
    }

    /// Its hash is taken, and its equal looked for.
    pub fn seal(&mut self) {
        if std::mem::take(&mut self.changed) {
            self.hash = seeds().hash_one(&*self.value);
            self.value = T::table().keep(self.hash, Arc::clone(&self.value));
        }
    }

    /// Hash of the sealed part.
    pub const fn hash(&self) -> u64 {
        self.hash
    }
}

impl<T> Deref for Part<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

/// Names the table of a type.
macro_rules! shared {
    ($($t:ty),+) => {$(
        impl $crate::part::Shared for $t {
            fn table() -> &'static $crate::part::Table<Self> {
                static TABLE: std::sync::LazyLock<$crate::part::Table<$t>> = std::sync::LazyLock::new(Default::default);
                &TABLE
            }
        }
    )+};
}
pub(crate) use shared;

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, Hash)]
    struct Word(u64);
    shared!(Word);

    #[test]
    fn equal_parts_are_one_and_a_change_touches_no_other() {
        let a = Part::new(Word(1));
        let mut b = a.clone();
        b.edit().0 = 2;
        b.seal();
        assert_eq!((a.0, b.0), (1, 2));
        assert_ne!(a.hash(), b.hash());
        b.edit().0 = 1;
        b.seal();
        assert!(a.hash() == b.hash() && Arc::ptr_eq(&a.value, &b.value));
    }
}
