//! The commit path: what happens between a guest's output and its client, and to a slice's bytes on the way.
//!
//! Pure data structures and byte work: no I/O, no cluster, no clock of its own (`now` is microseconds of one monotone
//! clock of the caller). Guest memory is touched only through [`SlotMemory`](crate::memory::slot_memory::SlotMemory).
//! One step follows the other:
//!
//! | step | where |
//! |---|---|
//! | TX kick, a frame is copied out once | the network device |
//! | classify | [`frame`]: every byte string is exactly one of TCP segment, ARP, other, unparsable; [`bindings`]: flow → slice |
//! | hold | [`valve`]: until a committed generation covers the frame ([`hold_queue`], [`quota`], [`coverage`]) |
//! | capture | [`capture`]: a consistent cut of one slot without pausing the guest ([`live_set`]) |
//! | send | [`delta`]: changed lines against the shadow in [`image`], [`chain`]ed by hash |
//! | apply | [`image`]: the standby takes whole checkpoints only |
//! | acknowledge, release | [`valve`]: [`Valve::release`](valve::Valve::release), in order |
//!
//! Input takes the other way: [`ingress`] keeps what a standby may have to replay and what a gate keeps from the guest,
//! [`tombstone`] answers for slices that are gone.

pub mod answer_frame;
pub mod bindings;
pub mod capture;
pub mod chain;
pub mod checkpoint;
pub mod connections;
pub mod coverage;
pub mod delta;
pub mod flow_store;
pub mod frame;
pub mod frame_pool;
pub mod hold_queue;
pub mod image;
pub mod image_error;
mod image_mapping;
pub mod ingress;
pub mod line_set;
pub mod live_set;
pub mod metrics;
pub mod openings;
pub mod page_set;
pub mod protected_ports;
pub mod published;
pub mod quota;
pub mod segment;
pub mod sequence;
pub mod slice_id;
pub mod slot_image;
pub mod syn_options;
pub mod syn_table;
pub mod tombstone;
pub mod valve;
pub mod valve_config;
pub mod verdict;

#[cfg(test)]
mod capture_race_tests;
#[cfg(test)]
mod path_tests;
#[cfg(test)]
mod test_frames;
#[cfg(test)]
mod test_memory;

pub use bindings::{BindError, Bindings};
pub use capture::{Capture, CaptureError, CaptureLimits, Captured, Capturer};
pub use checkpoint::{Applied, Checkpoint, Encoded, Installed};
pub use connections::{Connection, Connections, Place};
pub use coverage::{Breach, Coverage};
pub use flow_store::FlowLimits;
pub use frame::{Flaw, Frame, Source, parse};
pub use image::ImageStore;
pub use image_error::{ApplyError, ImageError};
pub use ingress::{Inbound, IngressLimits, IngressStore, Replay};
pub use metrics::{CaptureMetrics, ImageMetrics, IngressMetrics, TombstoneMetrics, ValveMetrics};
pub use protected_ports::ProtectedPorts;
pub use quota::{HeldLoad, HoldLimits};
pub use segment::{Segment, TcpFlags};
pub use slice_id::SliceId;
pub use slot_image::{Role, SlotImage};
pub use syn_options::SynOptions;
pub use tombstone::{Tombstone, TombstoneAnswer, Tombstones};
pub use valve::Valve;
pub use valve_config::{BreachPolicy, Mode, Rule, ValveConfig};
pub use verdict::{DropCause, Released, Verdict};
