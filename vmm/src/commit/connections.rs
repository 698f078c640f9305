//! The connections of one slice, by their place in its slot.
//!
//! A slice has one connection, or several where all connections of a client address are one slice. Whose flow lies in which place is what
//! this VMM accepted ([`super::bindings`]), never what the guest publishes.

use escape_abi::message::Flow;
use escape_abi::meta::CONNECTIONS_MAX;

/// Flows by place: what the host knows of a slice's connections.
pub type Flows = [Option<Flow>; CONNECTIONS_MAX];

/// What this VMM knows of a place in a slot that it owns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// Nothing: it was never used, or the guest has not told of its present use.
    #[default]
    Unknown,
    /// It has this connection.
    Bound {
        /// Whose.
        flow: Flow,
        /// Which use of the place.
        serial: u16,
    },
    /// Its connection has ended for this VMM, or was refused; what the guest publishes of it until it has heard so says nothing.
    Left {
        /// Which use of the place.
        serial: u16,
    },
}

/// What is known of all places of a slot.
pub type Places = [Place; CONNECTIONS_MAX];

impl Place {
    /// The flow of a connection that lives.
    pub fn flow(&self) -> Option<Flow> {
        match self {
            Self::Bound { flow, .. } => Some(*flow),
            Self::Unknown | Self::Left { .. } => None,
        }
    }
}

/// How far a connection was in a published state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Whose.
    pub flow: Flow,
    /// Which use of its place it is.
    pub serial: u16,
    /// Next byte expected from the client.
    pub rcv_nxt: u32,
    /// Next sequence number that will be sent for the first time.
    pub snd_nxt: u32,
    /// It is finished; these are its final numbers.
    pub ended: bool,
}

/// The connections of a published state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connections([Option<Connection>; CONNECTIONS_MAX]);

impl Connections {
    /// One connection in the first place.
    pub fn one(flow: Flow, rcv_nxt: u32, snd_nxt: u32) -> Self {
        let mut connections = Self::default();
        connections.set(0, Connection { flow, serial: 0, rcv_nxt, snd_nxt, ended: false });
        connections
    }

    /// Puts a connection into a place; places beyond the last are ignored.
    pub fn set(&mut self, place: usize, connection: Connection) {
        if let Some(entry) = self.0.get_mut(place) {
            *entry = Some(connection);
        }
    }

    /// The connection of a flow.
    pub fn of_flow(&self, flow: &Flow) -> Option<&Connection> {
        self.iter().map(|(_, c)| c).find(|c| c.flow == *flow)
    }

    /// All, with their places.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Connection)> {
        self.0.iter().enumerate().filter_map(|(place, c)| c.as_ref().map(|c| (place, c)))
    }

    /// The first one that there is.
    pub fn first(&self) -> Option<&Connection> {
        self.iter().next().map(|(_, c)| c)
    }

    /// Flows of those that are not finished, by place.
    pub fn open_flows(&self) -> Flows {
        self.0.map(|c| c.filter(|c| !c.ended).map(|c| c.flow))
    }

    /// The places as an owner knows them that goes on from this state.
    pub fn places(&self) -> Places {
        self.0.map(|connection| match connection {
            None => Place::Unknown,
            Some(Connection { serial, ended: true, .. }) => Place::Left { serial },
            Some(Connection { flow, serial, .. }) => Place::Bound { flow, serial },
        })
    }

    /// Two places have the same flow.
    pub fn repeats_a_flow(&self) -> bool {
        self.iter().any(|(place, c)| self.iter().any(|(other, d)| other != place && c.flow == d.flow))
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_frames::flow;
    use super::*;

    #[test]
    fn places_keep_their_flows() {
        let mut c = Connections::one(flow(1), 10, 20);
        c.set(2, Connection { flow: flow(2), serial: 5, rcv_nxt: 1, snd_nxt: 2, ended: true });
        c.set(CONNECTIONS_MAX, Connection { flow: flow(9), serial: 0, rcv_nxt: 0, snd_nxt: 0, ended: false });
        assert_eq!(c.iter().map(|(place, c)| (place, c.flow.port)).collect::<Vec<_>>(), [(0, 1), (2, 2)]);
        assert_eq!(c.of_flow(&flow(2)).map(|c| c.snd_nxt), Some(2));
        assert_eq!(c.of_flow(&flow(9)), None);
        assert_eq!(c.open_flows(), [Some(flow(1)), None, None, None]);
        assert!(!c.repeats_a_flow());
        c.set(3, Connection { flow: flow(1), serial: 0, rcv_nxt: 0, snd_nxt: 0, ended: false });
        assert!(c.repeats_a_flow());
    }
}
