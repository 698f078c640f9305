//! The Slice API: how a software layer delineates its part of a session (paper, section 2 and figure 3).
//!
//! A **capsule** is the least state of one session in one layer. A layer registers its capsules and says on which capsules
//! of lower layers they depend; the uppermost layer creates the **slice**: all capsules that its own can reach. The record of
//! that ([`SliceRecord`]) is state of the slice and lies in its slot, so it travels with it; what stays in the guest are the
//! layers themselves, each a [`CapsuleList`], and the [`LocalAgent`] that takes a slice up or apart layer by layer.
//!
//! Names follow the paper: `register_capsule`, `deregister_capsule`, `set_dep`, `create_slice`; `get_id`, `get_handle`,
//! `unplug_capsule`, `plug_capsule`, `get_ref`, `put_ref`.
//!
//! ```
//! use escape_capsule::{CapsuleId, LayerId, LocalAgent, Region, SliceKey, SliceRecord};
//! let key = SliceKey { slot: 7, incarnation: 1 << 32 | 1 };
//! let (tcp, session) = (CapsuleId::new(key, LayerId(1)), CapsuleId::new(key, LayerId(2)));
//! let mut record = SliceRecord::new(key);
//! LocalAgent::register_capsule(&mut record, tcp, &[Region { offset: 0, len: 4096 }])?;
//! LocalAgent::register_capsule(&mut record, session, &[Region { offset: 4096, len: 4096 }])?;
//! LocalAgent::set_dep(&mut record, session, tcp)?;
//! LocalAgent::create_slice(&mut record, key, session)?;
//! assert!(record.lower_first().eq([tcp, session]));
//! # Ok::<(), escape_capsule::SliceError>(())
//! ```
//!
//! The crate is `no_std` and allocates nothing. Its only `unsafe` reads the slot words and holds, which lie in memory that
//! is shared with the host ([`SlotRefs`]).
#![no_std]

mod agent;
mod error;
mod id;
mod list;
mod record;
mod references;
mod region;

pub use agent::LocalAgent;
pub use error::SliceError;
pub use id::{CapsuleId, LayerId, SliceKey};
pub use list::{CapsuleHandle, CapsuleList};
pub use record::{CAPSULES_MAX, SliceRecord};
pub use references::SlotRefs;
pub use region::{LiveSet, REGIONS_MAX, Region};
