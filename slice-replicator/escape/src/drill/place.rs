//! Where a fault happens, in the words of a drill file.

use std::fmt;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// A place, which the drill resolves when the fault is about to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The node with this number.
    Node(u16),
    /// A random node that serves sessions.
    Serving,
    /// A node that stands by for groups of the first fault's node (of a random one that serves, if there is none yet).
    Standby,
    /// The node after that of the fault before, in order of their numbers; the first time node 0.
    Next,
    /// The orchestrator, and with it the store.
    Orchestrator,
}

const NAMES: [(&str, Place); 4] = [
    ("serving", Place::Serving),
    ("standby", Place::Standby),
    ("next", Place::Next),
    ("orchestrator", Place::Orchestrator),
];

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, NAMES.iter().find(|(_, place)| place == self)) {
            (Self::Node(node), _) => write!(f, "{node}"),
            (_, Some((name, _))) => f.write_str(name),
            (_, None) => Ok(()),
        }
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Node(node) => serializer.serialize_u16(*node),
            named => serializer.collect_str(named),
        }
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PlaceVisitor)
    }
}

struct PlaceVisitor;

impl Visitor<'_> for PlaceVisitor {
    type Value = Place;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a node's number, or \"serving\", \"standby\", \"next\" or \"orchestrator\"")
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Place, E> {
        u16::try_from(value).map(Place::Node).map_err(|_| E::invalid_value(de::Unexpected::Signed(value), &self))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Place, E> {
        let named = NAMES.iter().find(|(name, _)| *name == value).map(|(_, place)| *place);
        named.ok_or_else(|| E::invalid_value(de::Unexpected::Str(value), &self))
    }
}
