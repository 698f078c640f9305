//! What one process of a cell needs to be itself.

use super::{CellName, PkiError, hex, role_from_label, role_label};
use crate::Identity;
use escape_proto::Role;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Key of the cell's heartbeats (see [`escape_proto::Beat`]). `Debug` does not show it.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HeartbeatKey(pub [u8; 32]);

/// One process's secrets, as its file holds them (TOML with PEM texts). `Debug` shows neither key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterSecrets {
    /// The cell.
    pub cell: CellName,
    /// The process's role, as the certificate says it.
    #[serde(with = "role_text")]
    pub role: Role,
    /// Key of the heartbeats: 64 hexadecimal digits.
    pub heartbeat_key: HeartbeatKey,
    /// Seed of the hash that places new flows. The same in all processes; kept from clients, or they could choose
    /// their node.
    pub placement_seed: u32,
    /// The authority's certificate, PEM.
    pub authority: String,
    /// The process's certificate, PEM.
    pub certificate: String,
    /// The process's private key, PEM (PKCS #8).
    pub key: String,
}

impl ClusterSecrets {
    /// Reads a secrets file and checks that key, certificate, role and authority fit together.
    ///
    /// # Errors
    /// [`PkiError`] says which part does not fit.
    pub fn from_toml(text: &str) -> Result<Self, PkiError> {
        let secrets: Self = toml::from_str(text)?;
        secrets.identity()?;
        Ok(secrets)
    }

    /// The file's text. It holds the private key: write it with mode 0600.
    ///
    /// # Errors
    /// [`PkiError::Print`].
    pub fn to_toml(&self) -> Result<String, PkiError> {
        Ok(toml::to_string(self)?)
    }

    /// The identity that links are made with.
    ///
    /// # Errors
    /// [`PkiError`] if a part cannot be read or does not fit the others.
    pub fn identity(&self) -> Result<Identity, PkiError> {
        Identity::new(self)
    }
}

impl fmt::Debug for ClusterSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterSecrets").field("cell", &self.cell).field("role", &self.role).finish_non_exhaustive()
    }
}

impl fmt::Debug for HeartbeatKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HeartbeatKey(…)")
    }
}

impl TryFrom<String> for HeartbeatKey {
    type Error = PkiError;
    fn try_from(text: String) -> Result<Self, PkiError> {
        hex::parse(&text).map(Self)
    }
}

impl From<HeartbeatKey> for String {
    fn from(key: HeartbeatKey) -> Self {
        hex::print(&key.0)
    }
}

mod role_text {
    use super::{Role, role_from_label, role_label};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(role: &Role, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&role_label(*role))
    }
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Role, D::Error> {
        role_from_label(&String::deserialize(d)?).map_err(D::Error::custom)
    }
}
