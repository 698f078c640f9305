//! Roles as text and as DNS names of certificates.

use super::{CellName, PkiError};
use escape_proto::{NodeId, Role};

/// `node-3`, `orchestrator`, `edge` or `operator`.
pub fn role_label(role: Role) -> String {
    match role {
        Role::Node(node) => format!("node-{node}"),
        Role::Orchestrator => "orchestrator".to_owned(),
        Role::Edge => "edge".to_owned(),
        Role::Operator => "operator".to_owned(),
    }
}

/// The role of a label.
///
/// # Errors
/// [`PkiError::Role`]; a label has exactly one spelling (`node-03` is none).
pub fn role_from_label(label: &str) -> Result<Role, PkiError> {
    let unknown = || PkiError::Role { label: label.chars().take(40).collect() };
    let role = match label {
        "orchestrator" => Role::Orchestrator,
        "edge" => Role::Edge,
        "operator" => Role::Operator,
        other => {
            let digits = other.strip_prefix("node-").ok_or_else(unknown)?;
            Role::Node(NodeId(digits.parse().map_err(|_| unknown())?))
        }
    };
    if role_label(role) == label { Ok(role) } else { Err(unknown()) }
}

/// The name that the certificate of a role carries: `<label>.<cell>.escape`.
pub fn dns_name(role: Role, cell: &CellName) -> String {
    format!("{}.{cell}.escape", role_label(role))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn labels_have_one_spelling() {
        for role in [Role::Node(NodeId(0)), Role::Node(NodeId(65_535)), Role::Orchestrator, Role::Edge, Role::Operator]
        {
            assert_eq!(role_from_label(&role_label(role)).unwrap(), role);
        }
        for bad in ["node", "node-", "node-03", "node-65536", "node--1", "node-+1", "Edge", ""] {
            assert!(role_from_label(bad).is_err(), "{bad}");
        }
    }
}
