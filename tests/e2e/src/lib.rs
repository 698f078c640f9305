//! What the end-to-end tests share.
//!
//! [`hostile`] is the host half of the guest that misbehaves on purpose; its guest half is
//! `images/freestanding/src/hostile`. Both halves know an attack by the same name.

pub mod hostile;
