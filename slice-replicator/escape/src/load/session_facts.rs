//! What `GET /session` says: which slice serves the connection, and on which node.

use serde::Deserialize;

/// The facts that the generator uses; the server may say more.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SessionFacts {
    /// The node that served the request.
    pub node: u16,
    /// Slice id, "slot:incarnation".
    pub slice: String,
}

impl SessionFacts {
    /// Reads the body of `GET /session`; the error says what is wrong with it.
    pub fn parse(body: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(body).map_err(|error| format!("body of GET /session: {error}"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn other_facts_are_allowed_missing_ones_are_not() {
        let facts = SessionFacts::parse(br#"{"slice":"7:3","generation":5,"node":2,"requests":9}"#).unwrap();
        assert_eq!(facts, SessionFacts { node: 2, slice: "7:3".into() });
        assert!(SessionFacts::parse(br#"{"node":2}"#).unwrap_err().contains("slice"));
    }
}
