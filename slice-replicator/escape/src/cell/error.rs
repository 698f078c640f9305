//! Why a cell could not be set up on this machine.

/// Errors of the set-up; the advice is in the message.
#[derive(Debug, thiserror::Error)]
pub enum CellSetupError {
    /// A namespace.
    #[error("network namespace: {0}")]
    NetNs(#[from] escape_fabric::netns::NetNsError),
    /// A link.
    #[error("link: {0}")]
    Link(#[from] escape_fabric::links::LinkError),
    /// A tap.
    #[error(transparent)]
    Tap(#[from] escape_fabric::tap::TapError),
    /// A filter of the control network.
    #[error("filter of the control network: {0}")]
    Filter(#[from] escape_fabric::nft::NftError),
    /// Flows of the edge.
    #[error("flows in force: {0}")]
    Flows(#[from] escape_fabric::fabric::FabricError),
    /// Keys and certificates.
    #[error("cluster identities: {0}")]
    Pki(#[from] escape_link::pki::PkiError),
    /// A configuration that cannot be printed.
    #[error("configuration of {what}: {source}")]
    Config {
        /// Whose.
        what: String,
        /// Why.
        source: toml::ser::Error,
    },
    /// A call to the kernel.
    #[error("{what}: {source}")]
    Os {
        /// What was tried.
        what: String,
        /// What the kernel says.
        source: std::io::Error,
    },
    /// There is no such node.
    #[error("this cell has no node {0}")]
    NoNode(u16),
    /// A process ended that should run.
    #[error("{what} ended early: {how}{tail}")]
    Ended {
        /// Which.
        what: String,
        /// Its status.
        how: String,
        /// The end of what it said, with a separator.
        tail: String,
    },
    /// A process does not answer.
    #[error("{what} did not answer {question:?} within {limit_ms} ms")]
    Silent {
        /// Which.
        what: String,
        /// What it was asked.
        question: String,
        /// The limit.
        limit_ms: u128,
    },
}

impl CellSetupError {
    /// For `map_err` at a system call.
    pub fn os(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Os { what, source }
    }
}

impl From<CellSetupError> for crate::drill::CellError {
    fn from(error: CellSetupError) -> Self {
        use crate::drill::CellError;
        match error {
            CellSetupError::NetNs(_) | CellSetupError::Link(_) | CellSetupError::Tap(_) => {
                CellError::Environment(error.to_string())
            }
            other => CellError::Other(other.to_string()),
        }
    }
}
