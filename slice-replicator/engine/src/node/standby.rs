//! The standby's side: checkpoints in, images kept, acknowledgements out. The acknowledgement is the fence (I3, I4).

use super::command::Command;
use super::engine::NodeEngine;
use super::event::RefuseApply;
use super::image::Image;
use super::owned_group::Stage;
use super::waiting::Waiting;
use crate::Mutant;
use escape_proto::{
    Ack, BodyKind, CheckpointHead, Epoch, GroupId, GroupRecord, Member, Mode, Refusal, RefusalCause, SliceId,
};
use std::cmp::Ordering;

impl NodeEngine {
    /// A checkpoint arrived: take it, let it wait for its record, or refuse it.
    pub(super) fn checkpoint(&mut self, waiting: Waiting, out: &mut Vec<Command>) {
        let Waiting { from, head, .. } = waiting;
        let Some(record) = self.view.group(head.group).copied() else {
            match self.config.broken {
                Some(Mutant::StandbyAmnesia) => self.admit(waiting, out),
                _ => self.let_wait(waiting, out),
            }
            return;
        };
        match head.epoch.cmp(&record.epoch) {
            Ordering::Greater => self.let_wait(waiting, out),
            Ordering::Less if self.still_acknowledges(&record, head.epoch) => self.admit_old(waiting, out),
            Ordering::Less => refuse(waiting, RefusalCause::Deposed { current: record.epoch }, out),
            Ordering::Equal if record.mode == Mode::Lost || !self.is_same(record.owner, from) => {
                refuse(waiting, RefusalCause::NotOwner, out);
            }
            Ordering::Equal => self.admit(waiting, out),
        }
    }

    /// The record has come: what waited for it goes on.
    pub(super) fn admit_waiting(&mut self, group: GroupId, out: &mut Vec<Command>) {
        if self.waiting.holds(group) {
            for waiting in self.waiting.leave(group) {
                self.checkpoint(waiting, out);
            }
        }
    }

    /// The caller applied a checkpoint, or could not. Only what is applied is acknowledged, and only at the epoch that
    /// the record still has.
    pub(super) fn applied(
        &mut self,
        from: Member,
        head: CheckpointHead,
        result: Result<(), RefuseApply>,
        out: &mut Vec<Command>,
    ) {
        if let Some(n) = self.applying.get_mut(&head.group) {
            *n = n.saturating_sub(1);
        }
        match result {
            // It was on its way into the old group when the slice had left it: the image is the new group's or nobody's (T9).
            Ok(()) if self.moved.has_left(head.group, head.slice) => {
                self.drop_stray(&head, out);
                out.push(Command::SendRefusal { to: from, refusal: refusal_of(&head, RefusalCause::NotOwner) });
            }
            Ok(()) if self.is_given_up(head.group, head.slice) => {
                out.push(Command::FreeImage { slice: head.slice });
                out.push(Command::SendRefusal { to: from, refusal: refusal_of(&head, RefusalCause::Quarantined) });
            }
            Ok(()) if self.owned.contains_key(&head.group) => self.applied_before_activation(head),
            Ok(()) => self.applied_to_image(from, head, out),
            Err(why) => self.not_applied(from, head, why, out),
        }
        let idle = self.applying.get(&head.group).is_none_or(|n| *n == 0);
        if idle && self.owned.get(&head.group).is_some_and(|g| g.stage == Stage::Applying) {
            self.start_activation(head.group, out);
        }
    }

    /// "Do you still stand by?" (T7)
    pub(super) fn probed(&self, from: Member, group: GroupId, nonce: u64, out: &mut Vec<Command>) {
        let record = self.view.group(group);
        let standing_by = record.is_some_and(|r| r.owner == from && r.standby.is_some() && r.standby == self.me);
        let epoch = record.map_or(Epoch(0), |r| r.epoch);
        out.push(Command::SendProbeReply { to: from, group, epoch, nonce, standing_by });
    }

    /// Frees a group's images (R6: its record is newer than they are and does not name this node).
    pub(super) fn free_images(&mut self, group: GroupId, out: &mut Vec<Command>) {
        for (slice, image) in self.images_of(group) {
            self.images.remove(slice);
            if !image.closed {
                out.push(Command::FreeImage { slice });
            }
        }
    }

    /// A group's images (a copy).
    pub(super) fn images_of(&self, group: GroupId) -> Vec<(SliceId, Image)> {
        self.images.iter().filter(|(_, i)| i.group == group).map(|(s, i)| (s, *i)).collect()
    }

    fn admit(&mut self, waiting: Waiting, out: &mut Vec<Command>) {
        let Waiting { from, head, body } = waiting;
        if let Err(cause) = self.examine(&head) {
            return refuse(waiting, cause, out);
        }
        let key = self.image_key(head.slice);
        if let Some(image) = self.images.get_mut(key)
            && is_repetition(image, &head, self.config.broken)
        {
            image.epoch = head.epoch;
            let (no, chain) = match self.config.broken {
                Some(Mutant::ReuseSlot) => (head.no, head.chain),
                _ => (image.no, image.chain),
            };
            out.push(Command::DropBody { body });
            let ack = Ack { group: head.group, epoch: head.epoch, slice: head.slice, no, chain };
            out.push(Command::SendAck { to: from, ack });
            return self.entomb_if_closed(&head, out);
        }
        *self.applying.entry(head.group).or_insert(0) += 1;
        if self.config.broken == Some(Mutant::AckBeforeApply) {
            out.push(Command::SendAck { to: from, ack: ack_of(&head) });
        }
        out.push(Command::Apply { from, head, body });
    }

    /// What an honest owner of the group could not have sent.
    fn examine(&self, head: &CheckpointHead) -> Result<(), RefusalCause> {
        let corrupt = |detail: &str| Err(RefusalCause::Corrupt { detail: detail.to_owned() });
        let base = match head.kind {
            BodyKind::Create | BodyKind::Full => 0,
            BodyKind::Delta | BodyKind::Close => head.no.0.wrapping_sub(1),
        };
        if head.no.0 == 0 || head.base.0 != base || (head.kind == BodyKind::Create && head.no.0 != 1) {
            return corrupt("number, base and kind do not fit");
        }
        if self.ledger.get(head.slice).is_some() {
            return corrupt("the slice is owned by the receiver");
        }
        if self.moved.has_left(head.group, head.slice) {
            return Err(RefusalCause::NotOwner);
        }
        if self.is_given_up(head.group, head.slice) {
            return Err(RefusalCause::Quarantined);
        }
        let key = self.image_key(head.slice);
        match self.images.get(key) {
            Some(image)
                if image.group != head.group && !image.closed && self.config.broken != Some(Mutant::ReuseSlot) =>
            {
                corrupt("the slice belongs to another group")
            }
            Some(_) => Ok(()),
            None if self.images.has_place(key) => Ok(()),
            None => Err(RefusalCause::NoRoom),
        }
    }

    fn let_wait(&mut self, waiting: Waiting, out: &mut Vec<Command>) {
        if !self.waiting.enter(waiting) {
            refuse(waiting, RefusalCause::Unknown, out);
        }
    }

    /// The old owner's last checkpoints, applied while its successor waits for them: part of what is activated.
    fn applied_before_activation(&mut self, head: CheckpointHead) {
        if self.owned.get(&head.group).is_some_and(|g| g.stage == Stage::Applying) {
            self.take_into_ledger(head.slice, &Image::of(&head));
        }
    }

    /// A checkpoint was applied to what is no image of its group.
    fn drop_stray(&mut self, head: &CheckpointHead, out: &mut Vec<Command>) {
        if self.images.get(head.slice).is_none() && self.ledger.get(head.slice).is_none() {
            out.push(Command::FreeImage { slice: head.slice });
        }
    }

    fn applied_to_image(&mut self, from: Member, head: CheckpointHead, out: &mut Vec<Command>) {
        let record = self.view.group(head.group).copied();
        let current = record.map(|r| r.epoch);
        let stands_by = record.is_some_and(|r| r.standby.is_some() && r.standby == self.me);
        if current.is_some_and(|c| c > head.epoch) && !stands_by && self.config.broken != Some(Mutant::OldEpoch) {
            // The record went on without this node while the checkpoint was being applied (R6).
            self.images.remove(head.slice);
            return out.push(Command::FreeImage { slice: head.slice });
        }
        let key = self.image_key(head.slice);
        if self.images.insert(key, Image::of(&head)).is_err() {
            out.push(Command::FreeImage { slice: head.slice });
            return out.push(Command::SendRefusal { to: from, refusal: refusal_of(&head, RefusalCause::NoRoom) });
        }
        let fenced = current.is_some_and(|c| c != head.epoch) && self.config.broken != Some(Mutant::OldEpoch);
        if !fenced && self.config.broken != Some(Mutant::AckBeforeApply) {
            out.push(Command::SendAck { to: from, ack: ack_of(&head) });
        }
        if !fenced {
            self.entomb_if_closed(&head, out);
        }
    }

    fn not_applied(&mut self, from: Member, head: CheckpointHead, why: RefuseApply, out: &mut Vec<Command>) {
        if let Some(image) = self.images.get(head.slice)
            && image.group == head.group
            && matches!(why, RefuseApply::WrongBase { .. })
            && image.has(&head)
        {
            // It came twice, the second time before the first was applied.
            let ack = Ack { no: image.no, chain: image.chain, ..ack_of(&head) };
            out.push(Command::SendAck { to: from, ack });
            return self.entomb_if_closed(&head, out);
        }
        out.push(Command::SendRefusal { to: from, refusal: refusal_of(&head, why.into()) });
    }

    fn entomb_if_closed(&mut self, head: &CheckpointHead, out: &mut Vec<Command>) {
        if head.kind != BodyKind::Close {
            return;
        }
        out.push(Command::Entomb { slice: head.slice });
        if self.config.broken == Some(Mutant::ReuseSlot) {
            return;
        }
        let older = |(slice, image): (SliceId, &Image)| (image.closed && slice != head.slice).then_some(slice);
        let older = self.images.in_slot(head.slice.slot).find_map(older);
        if let Some(older) = older {
            self.images.remove(older);
        }
        if let Some(image) = self.images.get_mut(head.slice) {
            image.closed = true;
        }
    }

    /// Deliberate fault: an image's name without the slot's incarnation.
    fn image_key(&self, slice: SliceId) -> SliceId {
        match self.config.broken {
            Some(Mutant::ReuseSlot) => SliceId { inc: 0, ..slice },
            _ => slice,
        }
    }

    /// Deliberate faults: is a checkpoint of an epoch that is over still acknowledged?
    fn still_acknowledges(&self, record: &GroupRecord, epoch: Epoch) -> bool {
        match self.config.broken {
            Some(Mutant::OldEpoch) => true,
            Some(Mutant::FrozenAtCas) => self.owned.contains_key(&record.group) && epoch.next() == record.epoch,
            _ => false,
        }
    }

    /// Deliberate faults: acknowledge an older epoch as if nothing had happened.
    fn admit_old(&mut self, waiting: Waiting, out: &mut Vec<Command>) {
        if self.owned.contains_key(&waiting.head.group) {
            out.push(Command::DropBody { body: waiting.body });
            out.push(Command::SendAck { to: waiting.from, ack: ack_of(&waiting.head) });
        } else {
            self.admit(waiting, out);
        }
    }
}

fn is_repetition(image: &Image, head: &CheckpointHead, broken: Option<Mutant>) -> bool {
    if broken == Some(Mutant::ReuseSlot) {
        return image.no >= head.no;
    }
    if image.closed {
        return image.group == head.group && image.no >= head.no;
    }
    // A full copy of another epoch replaces whatever is here, unless it is the very same.
    let same_epoch = image.epoch == head.epoch || image.no == head.no;
    image.has(head) && (head.kind != BodyKind::Full || same_epoch)
}

const fn ack_of(head: &CheckpointHead) -> Ack {
    Ack { group: head.group, epoch: head.epoch, slice: head.slice, no: head.no, chain: head.chain }
}

const fn refusal_of(head: &CheckpointHead, cause: RefusalCause) -> Refusal {
    Refusal { group: head.group, epoch: head.epoch, slice: head.slice, no: head.no, cause }
}

fn refuse(waiting: Waiting, cause: RefusalCause, out: &mut Vec<Command>) {
    out.push(Command::DropBody { body: waiting.body });
    out.push(Command::SendRefusal { to: waiting.from, refusal: refusal_of(&waiting.head, cause) });
}
