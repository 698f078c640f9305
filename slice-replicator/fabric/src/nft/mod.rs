//! nf_tables of the `netdev` family: what the fabric needs of it, encoded and read by hand.
//!
//! A [`Transaction`] collects changes; [`NftClient::commit`] sends them as one batch, which the kernel applies wholly or
//! not at all, between two packets.
//!
//! Source: `include/uapi/linux/netfilter/nf_tables.h`, `net/netfilter/nf_tables_api.c`.

mod client;
mod error;
mod expression;
mod removal;
mod set_spec;
mod transaction;
mod uapi;

pub use client::{CounterValue, NftClient, SetElement};
pub use error::NftError;
pub use expression::{Expression, MetaKey, PayloadBase, Register, Verdict};
pub use removal::Removal;
pub use set_spec::{DataType, SetSpec};
pub use transaction::{TableOwnership, Transaction};
