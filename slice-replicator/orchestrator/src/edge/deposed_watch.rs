//! Frames of nodes that had lost all their groups and yet got through: there must be none.

use std::collections::{BTreeMap, BTreeSet};

/// Frames that the fabric let through, per node.
pub(super) type SentFrames = BTreeMap<u16, u64>;

/// What is known of one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Account {
    /// It owns nothing now, after having owned something.
    deposed: bool,
    /// Its count when that began, once it was read.
    since: Option<u64>,
    /// Frames let through in former times without groups.
    passed: u64,
}

/// Keeps an account per node. The count is read right after the flip that takes the node's last group.
#[derive(Debug, Default)]
pub(super) struct DeposedWatch {
    accounts: BTreeMap<u16, Account>,
    owners: BTreeSet<u16>,
}

impl DeposedWatch {
    /// The nodes that own groups after a flip. Returns whether [`Self::read`] is wanted now.
    pub(super) fn owners(&mut self, owners: BTreeSet<u16>) -> bool {
        for node in self.owners.difference(&owners) {
            self.accounts.entry(*node).or_default().deposed = true;
        }
        self.owners = owners;
        self.accounts.values().any(|account| account.deposed && account.since.is_none())
    }

    /// Does one of these nodes, which are about to get groups, own none now? Then [`Self::settle`] it before.
    pub(super) fn returns(&self, nodes: impl IntoIterator<Item = u16>) -> bool {
        nodes.into_iter().any(|node| self.accounts.get(&node).is_some_and(|account| account.deposed))
    }

    /// Counts at this moment, for accounts that begin.
    pub(super) fn read(&mut self, sent: &SentFrames) {
        for (node, account) in &mut self.accounts {
            if account.deposed && account.since.is_none() {
                account.since = Some(sent.get(node).copied().unwrap_or_default());
            }
        }
    }

    /// These nodes are about to get groups: ends their accounts.
    pub(super) fn settle(&mut self, nodes: impl IntoIterator<Item = u16>, sent: &SentFrames) {
        for node in nodes {
            if let Some(account) = self.accounts.get_mut(&node) {
                account.passed += account.open(sent.get(&node).copied());
                account.deposed = false;
                account.since = None;
            }
        }
    }

    /// A node's frames that got through while it owned nothing; `None` if it never lost all its groups.
    pub(super) fn passed(&self, node: u16, sent: &SentFrames) -> Option<u64> {
        let account = self.accounts.get(&node)?;
        Some(account.passed + account.open(sent.get(&node).copied()))
    }

    /// Does the node own nothing after having owned something?
    pub(super) fn is_deposed(&self, node: u16) -> bool {
        self.accounts.get(&node).is_some_and(|account| account.deposed)
    }
}

impl Account {
    /// Frames since the account began. A port that was added anew counts from 0.
    fn open(&self, sent: Option<u64>) -> u64 {
        let (Some(since), Some(sent)) = (self.since, sent) else { return 0 };
        sent.checked_sub(since).unwrap_or(sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_frames_after_the_loss_of_all_groups_count() {
        let mut watch = DeposedWatch::default();
        let sent = |n| SentFrames::from([(1, n), (2, 0)]);
        assert!(!watch.owners(BTreeSet::from([1, 2])));
        assert!(watch.owners(BTreeSet::from([2])));
        watch.read(&sent(100));
        assert!(!watch.owners(BTreeSet::from([2])), "read once");
        assert_eq!(watch.passed(1, &sent(100)), Some(0));
        assert_eq!(watch.passed(1, &sent(103)), Some(3));
        assert_eq!(watch.passed(2, &sent(103)), None);
        assert!(watch.returns([1]) && !watch.returns([2]));
        watch.settle([1], &sent(105));
        assert!(!watch.owners(BTreeSet::from([1, 2])));
        assert_eq!(watch.passed(1, &sent(900)), Some(5), "frames of an owner do not count");
    }
}
