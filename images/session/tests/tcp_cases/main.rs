//! The TCP cases T1–T40 of the failover design, one or more tests each; `docs/tcp-cases.md` has the table.
//!
//! Whatever a test looks at itself, the world judges every frame that leaves ([`support::oracle`]): nothing beyond the commit (T1, T2), equal
//! bytes at equal numbers over all owners (T40), timestamps and acknowledgements that never go back (T10), one SYN-ACK, segments within the
//! MSS (T39), no RST.

#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod kills;

mod clients;
mod closing;
mod commits;
mod foreign;
mod handshake;
mod loss;
mod many;
mod numbers;
mod random;
mod windows;
