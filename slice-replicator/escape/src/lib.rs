//! The `escape` command as a library: what the command does is here, so that tests can do it too.

#![deny(unsafe_code)]

pub mod drill;
pub mod load;
