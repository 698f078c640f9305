//! What load to make.

use std::net::{Ipv4Addr, SocketAddr};

/// Sessions that share one instant of the schedule by default: with three nodes some 20 requests each.
pub const BURST_DEFAULT: usize = 64;
/// New connections per second while the sessions are opened.
pub const CONNECTS_PER_SECOND_DEFAULT: u32 = 2_000;

/// The load of one run.
#[derive(Clone, Debug)]
pub struct LoadPlan {
    /// The HTTP session server.
    pub http: SocketAddr,
    /// The checked byte stream.
    pub stream: SocketAddr,
    /// Generators that share the sessions at least; more where one may not have so many sockets. 0 and 1 are the same.
    pub generators: usize,
    /// Number of the first session: those of other generators have the numbers before it.
    pub first_session: usize,
    /// Addresses that the sessions take in turn, as many sessions from each; fewer than two: the kernel chooses.
    pub client_addresses: Vec<Ipv4Addr>,
    /// Sessions that live as long as the run.
    pub sessions: usize,
    /// How many of 100 sessions use the stream port.
    pub stream_percent: u8,
    /// Requests that each session sends per second, whatever comes back.
    pub requests_per_second: f64,
    /// Short sessions opened per second beside the others: open, three requests, close. 0 = none.
    pub churn_per_second: f64,
    /// Sessions that share one instant of the schedule.
    pub burst: usize,
    /// Seed of all requests.
    pub seed: u64,
    /// New connections per second while the sessions are opened.
    pub connects_per_second: u32,
}

impl LoadPlan {
    /// The default load on a service.
    pub fn new(http: SocketAddr, stream: SocketAddr, sessions: usize, seed: u64) -> Self {
        Self {
            http,
            stream,
            generators: 1,
            first_session: 0,
            client_addresses: Vec::new(),
            sessions,
            stream_percent: 10,
            requests_per_second: 5.0,
            churn_per_second: 0.0,
            burst: BURST_DEFAULT,
            seed,
            connects_per_second: CONNECTS_PER_SECOND_DEFAULT,
        }
    }

    /// The plan in so many parts, at least one and none without a session: as even as can be, each with a seed and a share of
    /// the client addresses of its own.
    pub fn parts(self, parts: usize) -> Vec<Self> {
        let parts = parts.clamp(1, self.sessions.max(1));
        let addresses = |part: usize| -> Vec<Ipv4Addr> {
            let of_part = self.client_addresses.iter().enumerate().filter(|(n, _)| n % parts == part);
            if self.client_addresses.len() < 2 * parts {
                self.client_addresses.clone()
            } else {
                of_part.map(|(_, a)| *a).collect()
            }
        };
        let mut first_session = self.first_session;
        let mut all = Vec::new();
        for part in 0..parts {
            let sessions = self.sessions / parts + usize::from(part < self.sessions % parts);
            all.push(Self {
                sessions,
                first_session,
                client_addresses: addresses(part),
                seed: self.seed.wrapping_add((part as u64) << 32),
                churn_per_second: self.churn_per_second / parts as f64,
                connects_per_second: (self.connects_per_second / parts as u32).max(1),
                ..self.clone()
            });
            first_session += sessions;
        }
        all
    }

    /// The address that connection `index` comes from; `None`: whichever the kernel chooses.
    pub fn client_address(&self, index: usize) -> Option<Ipv4Addr> {
        let addresses = self.client_addresses.as_slice();
        (addresses.len() > 1).then(|| addresses.get(index % addresses.len()).copied())?
    }

    /// Microseconds between two requests of a session.
    pub fn period_us(&self) -> u64 {
        period_us(self.requests_per_second)
    }

    /// Microseconds between two short sessions; none when there are none.
    pub fn churn_period_us(&self) -> Option<u64> {
        (self.churn_per_second > 0.0).then(|| period_us(self.churn_per_second))
    }

    /// Whether session `index` uses the stream port; streams are spread evenly.
    pub fn is_stream(&self, index: usize) -> bool {
        let percent = usize::from(self.stream_percent.min(100));
        (index + 1) * percent / 100 > index * percent / 100
    }
}

/// One per `per_second`, between 1 µs and an hour.
fn period_us(per_second: f64) -> u64 {
    let period = 1e6 / per_second;
    if period.is_finite() { period.clamp(1.0, 3.6e9) as u64 } else { 3_600_000_000 }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_spread_evenly() {
        let address = "127.0.0.1:1".parse().unwrap();
        let plan = LoadPlan::new(address, address, 1000, 0);
        assert_eq!((0..1000).filter(|&index| plan.is_stream(index)).count(), 100);
        assert_eq!((0..50).filter(|&index| plan.is_stream(index)).count(), 5);
        assert_eq!(plan.period_us(), 200_000);
    }

    #[test]
    fn parts_have_all_sessions_once() {
        let address = "127.0.0.1:1".parse().unwrap();
        let plan = LoadPlan::new(address, address, 10, 7);
        let parts = plan.clone().parts(3);
        let told: Vec<_> = parts.iter().map(|p| (p.first_session, p.sessions)).collect();
        assert_eq!(told, [(0, 4), (4, 3), (7, 3)]);
        assert_eq!((parts[0].seed, parts.iter().filter(|p| p.seed == 7).count()), (7, 1));
        assert_eq!(plan.clone().parts(0).len(), 1);
        assert_eq!(plan.parts(99).len(), 10);
    }

    #[test]
    fn addresses_are_taken_in_turn() {
        let address = "127.0.0.1:1".parse().unwrap();
        let plan = LoadPlan::new(address, address, 1000, 0);
        assert_eq!(plan.client_address(7), None);
        let two = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)];
        let plan = LoadPlan { client_addresses: two.to_vec(), ..plan };
        assert_eq!([0, 1, 2, 1001].map(|index| plan.client_address(index)), [two[0], two[1], two[0], two[1]].map(Some));
    }
}
