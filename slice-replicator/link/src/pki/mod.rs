//! The cell's own certificate authority, and what each process gets from it.
//!
//! The authority stays with the person who made the cell. A process gets [`ClusterSecrets`]: its own certificate and
//! key, the authority's certificate, and the key of the heartbeats. Its role is written into the certificate as a DNS
//! name (`node-3.<cell>.escape`), so that a stolen node key cannot speak as the orchestrator.

mod authority;
mod cell_name;
mod error;
mod hex;
mod role_name;
mod secrets;

pub use authority::{ClusterAuthority, random};
pub use cell_name::CellName;
pub use error::PkiError;
pub use role_name::{dns_name, role_from_label, role_label};
pub use secrets::{ClusterSecrets, HeartbeatKey};
