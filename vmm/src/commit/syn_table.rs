//! The SYNs that this VMM received itself: the evidence without which no flow is bound.

use super::syn_options::SynOptions;
use escape_abi::message::Flow;
use std::collections::{HashMap, VecDeque};

/// Most SYNs remembered; the oldest is dropped for a new one (its client sends it again).
pub const SYNS_MAX: usize = 4_096;
/// How long a SYN may be answered by a binding, microseconds.
pub const SYN_AGE_MAX_US: u64 = 5_000_000;

#[derive(Clone, Copy, Debug)]
struct SynSeen {
    flow: Flow,
    isn: u32,
    options: SynOptions,
    at_us: u64,
}

/// A ring of the last [`SYNS_MAX`] SYNs, by flow.
#[derive(Debug, Default)]
pub struct SynTable {
    ring: VecDeque<SynSeen>,
    /// Serial number of the ring's first entry; serials name entries while the ring moves on.
    first_serial: u64,
    newest_of_flow: HashMap<Flow, u64>,
}

impl SynTable {
    /// Remembers a SYN. A repeated SYN of a flow replaces the earlier one.
    pub fn saw(&mut self, flow: Flow, isn: u32, options: SynOptions, now: u64) {
        if self.ring.len() >= SYNS_MAX {
            self.drop_oldest();
        }
        let serial = self.first_serial + self.ring.len() as u64;
        self.ring.push_back(SynSeen { flow, isn, options, at_us: now });
        self.newest_of_flow.insert(flow, serial);
    }

    /// The SYN of `flow`, if it is young enough: its sequence number and what it offered.
    pub fn get(&self, flow: &Flow, now: u64) -> Option<(u32, SynOptions)> {
        let serial = self.newest_of_flow.get(flow)?;
        let seen = self.ring.get(usize::try_from(serial.checked_sub(self.first_serial)?).ok()?)?;
        (seen.flow == *flow && now.saturating_sub(seen.at_us) <= SYN_AGE_MAX_US).then_some((seen.isn, seen.options))
    }

    /// Uses up the SYN of `flow` and returns its initial sequence number, if it is young enough.
    pub fn take(&mut self, flow: &Flow, now: u64) -> Option<u32> {
        let serial = self.newest_of_flow.remove(flow)?;
        let index = usize::try_from(serial.checked_sub(self.first_serial)?).ok()?;
        let seen = self.ring.get(index)?;
        (seen.flow == *flow && now.saturating_sub(seen.at_us) <= SYN_AGE_MAX_US).then_some(seen.isn)
    }

    /// SYNs that could be taken now.
    pub fn len(&self) -> usize {
        self.newest_of_flow.len()
    }

    /// No SYN could be taken.
    pub fn is_empty(&self) -> bool {
        self.newest_of_flow.is_empty()
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.ring.pop_front() {
            if self.newest_of_flow.get(&oldest.flow) == Some(&self.first_serial) {
                self.newest_of_flow.remove(&oldest.flow);
            }
            self.first_serial += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_frames::flow;
    use super::*;

    #[test]
    fn a_syn_is_good_once_and_for_five_seconds() {
        let mut table = SynTable::default();
        table.saw(flow(1), 11, SynOptions::default(), 0);
        table.saw(flow(1), 12, SynOptions::default(), 10);
        assert_eq!(table.get(&flow(1), 5_000_010), Some((12, SynOptions::default())));
        assert_eq!(table.get(&flow(1), 5_000_011), None);
        assert_eq!(table.take(&flow(1), 5_000_010), Some(12));
        assert_eq!(table.take(&flow(1), 5_000_010), None);
        table.saw(flow(2), 5, SynOptions::default(), 0);
        assert_eq!(table.take(&flow(2), SYN_AGE_MAX_US + 1), None);
        assert_eq!(table.take(&flow(3), 0), None);
    }

    #[test]
    fn a_flood_is_bounded_and_drops_the_oldest() {
        let mut table = SynTable::default();
        for n in 0..SYNS_MAX as u16 + 10 {
            table.saw(flow(n), u32::from(n), SynOptions::default(), 0);
        }
        assert_eq!((table.ring.len(), table.len()), (SYNS_MAX, SYNS_MAX));
        assert_eq!(table.take(&flow(9), 1), None);
        assert_eq!(table.take(&flow(10), 1), Some(10));
        // One flow that repeats itself may push others out, but never grows the table.
        for _ in 0..3 * SYNS_MAX {
            table.saw(flow(1), 1, SynOptions::default(), 0);
        }
        assert_eq!((table.ring.len(), table.len()), (SYNS_MAX, 1));
    }
}
