//! What host and guest share: the guest-physical layout, the control pages and the two rings in them.
//!
//! Everything here is `repr(C)` plain data. The *host* never trusts a word of what it reads from these structures and
//! reads them by volatile or atomic access only; the *guest* trusts the host.
#![no_std]

pub mod boot;
pub mod control;
pub mod layout;
pub mod message;
pub mod meta;
pub mod wake;
pub mod word;

pub use boot::BootParams;
pub use control::{ControlHeader, ControlLayout};
pub use message::{GuestMessage, HostMessage, OpeningNumbers, RingEntry};
pub use meta::{ConnectionNumbers, LiveRange, SlotMeta};
pub use word::SlotWord;
