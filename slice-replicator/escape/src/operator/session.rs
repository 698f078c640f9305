//! How a session is named on the command line.

use escape_proto::{MoveWhat, SliceId};
use std::net::SocketAddrV4;
use std::str::FromStr;

/// A session: its client's `address:port`, or its slice as it is told everywhere, `slot:incarnation` (the second in hexadecimal).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session(pub MoveWhat);

/// Not the name of a session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a client's ADDRESS:PORT (10.0.0.7:40112) nor a slice's SLOT:INCARNATION (131:100000001)")]
pub struct SessionError(String);

impl FromStr for Session {
    type Err = SessionError;
    fn from_str(text: &str) -> Result<Self, SessionError> {
        if let Ok(client) = text.parse::<SocketAddrV4>() {
            return Ok(Self(MoveWhat::Client { ip: client.ip().octets(), port: client.port() }));
        }
        let slice = text.split_once(':').and_then(|(slot, inc)| {
            Some(SliceId { slot: slot.parse().ok()?, inc: u64::from_str_radix(inc, 16).ok()? })
        });
        slice.map(|slice| Self(MoveWhat::Slice(slice))).ok_or_else(|| SessionError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_session_is_named_by_its_client_or_by_its_slice() {
        let client = MoveWhat::Client { ip: [10, 0, 0, 7], port: 40_112 };
        assert_eq!("10.0.0.7:40112".parse::<Session>().unwrap().0, client);
        let slice = SliceId { slot: 131, inc: 0x1_0000_0001 };
        assert_eq!("131:100000001".parse::<Session>().unwrap().0, MoveWhat::Slice(slice));
        assert_eq!(slice.to_string().parse::<Session>().unwrap().0, MoveWhat::Slice(slice), "as it is told");
        for wrong in ["", "131", "10.0.0.7", "a:b", "10.0.0.7:99999", "131:xyz"] {
            assert!(wrong.parse::<Session>().is_err(), "{wrong}");
        }
    }
}
