//! The cell's certificate authority.

use super::{CellName, ClusterSecrets, HeartbeatKey, PkiError, dns_name};
use escape_proto::Role;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Makes the identities of one cell. Whoever holds it can be anyone in the cell; processes never need it.
///
/// Certificates are valid for centuries on purpose: a clock that jumps must not cut links (PROTOCOL.md, event "clock
/// jump"). A leaked key is answered by a new authority.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterAuthority {
    /// The cell.
    pub cell: CellName,
    /// Key of the heartbeats.
    pub heartbeat_key: HeartbeatKey,
    /// Seed of the hash that places new flows.
    pub placement_seed: u32,
    /// The authority's certificate, PEM.
    pub certificate: String,
    /// The authority's private key, PEM (PKCS #8).
    pub key: String,
}

impl ClusterAuthority {
    /// A new authority with new keys.
    ///
    /// # Errors
    /// [`PkiError`] if the name is not a cell name or the system has no random bytes.
    pub fn new(cell: &str) -> Result<Self, PkiError> {
        let cell = CellName::new(cell)?;
        let key = KeyPair::generate().map_err(|source| PkiError::Certificate { what: "authority key", source })?;
        let certificate = authority_params(&cell)
            .self_signed(&key)
            .map_err(|source| PkiError::Certificate { what: "authority certificate", source })?;
        Ok(Self {
            heartbeat_key: HeartbeatKey(random()?),
            placement_seed: u32::from_le_bytes(random()?),
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            cell,
        })
    }

    /// Secrets of one process: a new key and a certificate that names its role.
    ///
    /// # Errors
    /// [`PkiError`] if the authority's key cannot be read or signing fails.
    pub fn issue(&self, role: Role) -> Result<ClusterSecrets, PkiError> {
        let signing =
            KeyPair::from_pem(&self.key).map_err(|source| PkiError::Certificate { what: "authority key", source })?;
        // The issuer is named by the same words each time, so the stored certificate need not be parsed.
        let issuer = Issuer::new(authority_params(&self.cell), signing);
        let name = dns_name(role, &self.cell);
        let failed = |source| PkiError::Certificate { what: "process certificate", source };
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::new(vec![name.clone()]).map_err(failed)?;
        params.distinguished_name = named(&name);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &issuer).map_err(failed)?;
        Ok(ClusterSecrets {
            cell: self.cell.clone(),
            role,
            heartbeat_key: self.heartbeat_key,
            placement_seed: self.placement_seed,
            authority: self.certificate.clone(),
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }

    /// Reads an authority file.
    ///
    /// # Errors
    /// [`PkiError::Parse`].
    pub fn from_toml(text: &str) -> Result<Self, PkiError> {
        Ok(toml::from_str(text)?)
    }

    /// The file's text. It holds the authority's private key: write it with mode 0600.
    ///
    /// # Errors
    /// [`PkiError::Print`].
    pub fn to_toml(&self) -> Result<String, PkiError> {
        Ok(toml::to_string(self)?)
    }
}

impl fmt::Debug for ClusterAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterAuthority").field("cell", &self.cell).finish_non_exhaustive()
    }
}

fn authority_params(cell: &CellName) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(&format!("{cell}.escape authority"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// Bytes that nobody can guess.
///
/// # Errors
/// [`PkiError::NoRandomness`] if the system has none.
pub fn random<const N: usize>() -> Result<[u8; N], PkiError> {
    let mut bytes = [0; N];
    rustls::crypto::ring::default_provider().secure_random.fill(&mut bytes).map_err(|_| PkiError::NoRandomness)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use escape_proto::NodeId;

    #[test]
    fn authority_and_secrets_survive_their_files_and_hide_keys() {
        let authority = ClusterAuthority::new("cell-a").unwrap();
        let again = ClusterAuthority::from_toml(&authority.to_toml().unwrap()).unwrap();
        assert_eq!(again, authority);
        let secrets = again.issue(Role::Node(NodeId(3))).unwrap();
        let text = secrets.to_toml().unwrap();
        assert_eq!(ClusterSecrets::from_toml(&text).unwrap(), secrets);
        assert!(!format!("{authority:?}{secrets:?}").contains("PRIVATE"));
        assert!(!text.contains(authority.key.lines().nth(1).unwrap()));
    }

    #[test]
    fn parts_that_do_not_fit_are_refused_when_the_file_is_read() {
        let authority = ClusterAuthority::new("cell-a").unwrap();
        let node = authority.issue(Role::Node(NodeId(3))).unwrap();
        let edge = authority.issue(Role::Edge).unwrap();
        let foreign_key = ClusterSecrets { key: edge.key.clone(), ..node.clone() };
        let foreign_role = ClusterSecrets { role: Role::Edge, ..node.clone() };
        let foreign_cell = ClusterSecrets { cell: CellName::new("cell-b").unwrap(), ..node.clone() };
        let no_pem = ClusterSecrets { authority: "hello".into(), ..node.clone() };
        for bad in [foreign_key, foreign_role, foreign_cell, no_pem] {
            assert!(ClusterSecrets::from_toml(&bad.to_toml().unwrap()).is_err());
        }
        let unknown = format!("colour = 1\n{}", node.to_toml().unwrap());
        assert!(ClusterSecrets::from_toml(&unknown).unwrap_err().to_string().contains("colour"));
        let short = node.to_toml().unwrap().replace(&String::from(node.heartbeat_key), "abc");
        assert!(ClusterSecrets::from_toml(&short).is_err());
    }
}
