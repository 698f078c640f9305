//! What really happened: nobody in the cell knows it all, the judge does.

use crate::part::shared;
use escape_proto::{GroupId, Member, MoveRecord, SliceId};
use std::collections::BTreeMap;

/// The truth about a session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Story {
    /// Its group.
    pub group: GroupId,
    /// Digest of each output that left a valve, by requests served.
    pub released: Vec<Option<u64>>,
    /// Requests whose reply the client has.
    pub seen: Option<u8>,
    /// Its CLOSE is committed.
    pub closed: bool,
    /// Its group was lost.
    pub lost: bool,
}

/// What the judge remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Truth {
    /// All sessions.
    pub stories: BTreeMap<SliceId, Story>,
    /// What ended lives knew of each slice.
    pub graves: BTreeMap<Member, Vec<(SliceId, Option<u8>)>>,
    /// Highest epoch that each group's record ever had.
    pub top: BTreeMap<GroupId, u64>,
    /// Activations with slices, up to 3.
    pub activations: u8,
}

shared!(Truth);

impl Truth {
    /// The store says so: the sessions are of another group.
    pub fn note_moved(&mut self, record: &MoveRecord) {
        for slice in &record.slices {
            if let Some(story) = self.stories.get_mut(slice).filter(|story| story.group == record.from) {
                story.group = record.to;
            }
        }
    }
}

impl Story {
    /// Highest output that left a valve.
    pub fn newest(&self) -> Option<u8> {
        self.released.iter().rposition(Option::is_some).and_then(|n| u8::try_from(n).ok())
    }

    /// A client may know of it, and it has not ended.
    pub fn is_open(&self) -> bool {
        !self.closed && !self.lost && self.newest().is_some()
    }
}
