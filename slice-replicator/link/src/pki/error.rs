//! What can be wrong with keys and certificates.

/// Why an authority or an identity could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A cell's name becomes a DNS label.
    #[error("cell name {name:?}: 1 to 40 characters a-z, 0-9 and -, not at either end, are allowed")]
    CellName {
        /// What was given.
        name: String,
    },
    /// Not a role.
    #[error("role {label:?}: expected node-<0..65535>, orchestrator, edge or operator")]
    Role {
        /// What was given.
        label: String,
    },
    /// Not 32 bytes in hexadecimal.
    #[error("heartbeat key: expected 64 hexadecimal digits, found {found} characters")]
    HeartbeatKey {
        /// Length of what was given.
        found: usize,
    },
    /// Making or reading a certificate or key failed.
    #[error("{what}: {source}")]
    Certificate {
        /// Which.
        what: &'static str,
        /// Why.
        source: rcgen::Error,
    },
    /// A PEM text holds no such thing.
    #[error("{what} is not usable PEM: {detail}")]
    Pem {
        /// Which.
        what: &'static str,
        /// Why.
        detail: String,
    },
    /// Key and certificate do not fit, or the authority's certificate cannot be a root.
    #[error("{what}: {source}")]
    Tls {
        /// Which.
        what: &'static str,
        /// Why.
        source: rustls::Error,
    },
    /// The certificate is of another role than the file says.
    #[error("the certificate is not one of {expected}: {source}")]
    WrongRole {
        /// DNS name wanted.
        expected: String,
        /// What the check says.
        source: rustls::Error,
    },
    /// Not the file that was expected.
    #[error("secrets file: {0}")]
    Parse(#[from] toml::de::Error),
    /// Could not be written as TOML.
    #[error("secrets file: {0}")]
    Print(#[from] toml::ser::Error),
    /// The system gave no random bytes.
    #[error("no random bytes from the system")]
    NoRandomness,
}
