//! What `GET /session` says: which slice serves the connection, and on which node.

use serde::Deserialize;

/// The facts that the generator uses; the server may say more.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SessionFacts {
    /// The node that served the request.
    pub node: u16,
    /// Slice id, "slot:incarnation".
    pub slice: String,
    /// Requests of the session, this one included; checked where it is told.
    pub requests: Option<u64>,
    /// The session's counter; checked where it is told.
    pub counter: Option<u64>,
}

impl SessionFacts {
    /// Reads the body of `GET /session`; the error says what is wrong with it.
    pub fn parse(body: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(body).map_err(|error| format!("body of GET /session: {error}"))
    }

    /// Compares what is told with what it must be.
    pub fn check(self, requests: u64, counter: u64) -> Result<Self, String> {
        if self.requests.is_some_and(|told| told != requests) || self.counter.is_some_and(|told| told != counter) {
            let Self { requests: told_requests, counter: told_counter, .. } = self;
            return Err(format!(
                "GET /session tells {told_requests:?} requests and counter {told_counter:?}, must be {requests} and {counter}"
            ));
        }
        Ok(self)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn other_facts_are_allowed_missing_ones_are_not() {
        let facts = SessionFacts::parse(br#"{"slice":"7:3","generation":5,"node":2,"requests":9}"#).unwrap();
        assert_eq!((facts.node, facts.slice.as_str()), (2, "7:3"));
        assert!(facts.clone().check(9, 77).is_ok(), "a counter that is not told cannot be wrong");
        assert!(facts.check(10, 0).unwrap_err().contains("must be 10"));
        assert!(SessionFacts::parse(br#"{"node":2}"#).unwrap_err().contains("slice"));
    }
}
