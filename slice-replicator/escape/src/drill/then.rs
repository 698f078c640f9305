//! What a drill file wants awaited between a fault and the next one.

use std::fmt;
use std::time::Duration;

use serde::de::value::StrDeserializer;
use serde::de::{self, Deserializer, IntoDeserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::timeline::EventKind;

/// What comes between a fault and the next. Faults with anything but `Protected` between them are one round: judged
/// together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Until every slice is protected again and the fault is healed.
    Protected,
    /// Nothing: the next one at once.
    Nothing,
    /// So long.
    Pause(Duration),
    /// Until this step of the failover is seen.
    Event(EventKind),
}

/// Longest pause, milliseconds.
const PAUSE_MS_MAX: u64 = 3_600_000;

impl Serialize for Then {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Protected => serializer.serialize_str("protected"),
            Self::Nothing => serializer.serialize_str("nothing"),
            Self::Pause(pause) => serializer.serialize_u64(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)),
            Self::Event(event) => event.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Then {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ThenVisitor)
    }
}

struct ThenVisitor;

impl Visitor<'_> for ThenVisitor {
    type Value = Then;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "\"protected\", \"nothing\", milliseconds up to {PAUSE_MS_MAX}, or a step of a failover: \"suspected\", \
             \"epoch_raised\", \"gate_closed\", \"flipped\", \"first_plugged\" or \"last_plugged\""
        )
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Then, E> {
        match u64::try_from(value) {
            Ok(ms) if ms <= PAUSE_MS_MAX => Ok(Then::Pause(Duration::from_millis(ms))),
            _ => Err(E::invalid_value(de::Unexpected::Signed(value), &self)),
        }
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Then, E> {
        let refused = || E::invalid_value(de::Unexpected::Str(value), &self);
        match value {
            "protected" => Ok(Then::Protected),
            "nothing" => Ok(Then::Nothing),
            name => {
                let name: StrDeserializer<'_, de::value::Error> = name.into_deserializer();
                let event = EventKind::deserialize(name).map_err(|_| refused())?;
                if event.is_of_a_failover() { Ok(Then::Event(event)) } else { Err(refused()) }
            }
        }
    }
}
