//! The rules of the first message on a link.

use crate::error::HelloFault;
use escape_proto::{Hello, PROTOCOL_VERSION, Role};

/// Longest hello or reply, bytes; the frame limit until the link is open.
pub(crate) const HELLO_BYTES_MAX: usize = 1024;
/// Channels of a pair: commits and bulk copies.
const CHANNELS: u8 = 2;
/// Longest cause that is taken from a peer, characters.
const CAUSE_MAX: usize = 200;

/// Which roles a listener talks to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoleSet {
    /// Nodes.
    pub nodes: bool,
    /// The orchestrator.
    pub orchestrator: bool,
    /// The edge.
    pub edge: bool,
    /// People's commands.
    pub operators: bool,
}

impl RoleSet {
    /// Nodes only.
    pub const NODES: Self = Self { nodes: true, orchestrator: false, edge: false, operators: false };

    /// Is that role in the set?
    pub const fn contains(self, role: Role) -> bool {
        match role {
            Role::Node(_) => self.nodes,
            Role::Orchestrator => self.orchestrator,
            Role::Edge => self.edge,
            Role::Operator => self.operators,
        }
    }
}

/// What the answering end checks. The certificate is checked apart from it.
pub(crate) fn check_hello(own: &Hello, theirs: &Hello, admits: RoleSet) -> Result<(), HelloFault> {
    check_common(own, theirs)?;
    if !admits.contains(theirs.from) {
        return Err(HelloFault::NotAdmitted { role: theirs.from });
    }
    if theirs.channel >= CHANNELS {
        return Err(HelloFault::Channel { channel: theirs.channel });
    }
    Ok(())
}

/// What the calling end checks in the answer.
pub(crate) fn check_welcome(own: &Hello, wanted: Role, theirs: &Hello) -> Result<(), HelloFault> {
    check_common(own, theirs)?;
    if theirs.from != wanted {
        return Err(HelloFault::OtherRole { found: theirs.from, wanted });
    }
    Ok(())
}

fn check_common(own: &Hello, theirs: &Hello) -> Result<(), HelloFault> {
    if theirs.version != PROTOCOL_VERSION {
        return Err(HelloFault::Version { theirs: theirs.version, ours: PROTOCOL_VERSION });
    }
    // All zero: that end has not joined a cluster yet.
    let unknown = [0; 16];
    if own.cluster != theirs.cluster && own.cluster != unknown && theirs.cluster != unknown {
        return Err(HelloFault::Cluster { theirs: theirs.cluster, ours: own.cluster });
    }
    check_life(theirs, own)?;
    check_life(own, theirs)
}

/// Is `found` the life that `expecting` wants at the other end?
fn check_life(expecting: &Hello, found: &Hello) -> Result<(), HelloFault> {
    if expecting.expect.0 != 0 && expecting.expect != found.inc {
        return Err(HelloFault::Incarnation { expected: expecting.expect, found: found.inc });
    }
    Ok(())
}

/// A peer's words, cut and without control characters, fit for a log.
pub(crate) fn tame(cause: &str) -> String {
    cause.chars().take(CAUSE_MAX).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use escape_proto::{Incarnation, NodeId};

    fn hello(from: Role, inc: u64, expect: u64) -> Hello {
        let (inc, expect) = (Incarnation(inc), Incarnation(expect));
        Hello { version: PROTOCOL_VERSION, cluster: [3; 16], from, inc, expect, channel: 0 }
    }

    #[test]
    fn every_field_of_a_hello_is_checked() {
        let own = hello(Role::Node(NodeId(1)), 5, 0);
        let good = hello(Role::Node(NodeId(2)), 9, 5);
        assert_eq!(check_hello(&own, &good, RoleSet::NODES), Ok(()));
        assert_eq!(check_hello(&own, &Hello { cluster: [0; 16], ..good.clone() }, RoleSet::NODES), Ok(()));
        let refused = |theirs: Hello| check_hello(&own, &theirs, RoleSet::NODES).is_err();
        assert!(refused(Hello { version: PROTOCOL_VERSION + 1, ..good.clone() }));
        assert!(refused(Hello { cluster: [4; 16], ..good.clone() }));
        assert!(refused(Hello { from: Role::Edge, ..good.clone() }));
        assert!(refused(Hello { expect: Incarnation(4), ..good.clone() }));
        assert!(refused(Hello { channel: 2, ..good.clone() }));
        let strict = Hello { expect: Incarnation(8), ..own.clone() };
        assert!(check_hello(&strict, &good, RoleSet::NODES).is_err());
        assert!(check_welcome(&own, Role::Node(NodeId(2)), &good).is_ok());
        assert!(check_welcome(&own, Role::Node(NodeId(3)), &good).is_err());
    }

    #[test]
    fn a_peers_words_cannot_paint_the_terminal() {
        assert_eq!(tame("a\u{1b}[31m\n"), "a\\u{1b}[31m\\n");
        assert!(tame(&"x".repeat(10_000)).len() <= CAUSE_MAX);
    }
}
