//! The identity that a process already has.

use super::error::CellDirectoryError;
use escape_link::{ClusterAuthority, ClusterSecrets};
use escape_proto::Role;
use std::path::Path;

/// The secrets in a configuration that was written before; they must be of this authority and this role.
pub(super) fn of_configuration(
    file: &Path,
    text: &str,
    authority: &ClusterAuthority,
    role: Role,
) -> Result<ClusterSecrets, CellDirectoryError> {
    let refused = |cause: String| CellDirectoryError::Unreadable { file: file.to_owned(), cause };
    // Only this table: the rest may be of another version of the program, and is written anew.
    let mut configuration: toml::Table = text.parse().map_err(|e: toml::de::Error| refused(e.to_string()))?;
    let secrets = configuration.remove("secrets").ok_or_else(|| refused("it has no identity".into()))?;
    let secrets: ClusterSecrets = secrets.try_into().map_err(|e: toml::de::Error| refused(e.to_string()))?;
    secrets.identity().map_err(|e| refused(e.to_string()))?;
    if secrets.authority != authority.certificate || secrets.cell != authority.cell {
        return Err(refused("its identity is from another authority".into()));
    }
    if secrets.role != role {
        return Err(refused(format!("its identity is that of {}", escape_link::pki::role_label(secrets.role))));
    }
    Ok(secrets)
}
