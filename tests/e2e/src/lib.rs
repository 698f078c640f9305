//! What the end-to-end tests share.
//!
//! [`capture`] judges what `tcpdump` saw at the clients.
//!
//! [`hostile`] is the host half of the guest that misbehaves on purpose; its guest half is
//! `images/freestanding/src/hostile`. Both halves know an attack by the same name.

pub mod capture;
pub mod hostile;
