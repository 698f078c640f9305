//! The guest's messages, as a node takes them.

use super::host::Host;
use escape_abi::layout::LEASE_SLOTS;
use escape_abi::message::Flow;
use escape_abi::{GuestMessage, HostMessage};
use escape_vmm::commit::{Role, SliceId};

/// Messages taken per turn.
const MESSAGES_PER_TURN_MAX: usize = 1024;

impl Host {
    /// Takes what the guest has written to its ring.
    pub(super) fn take_messages(&mut self) {
        for _ in 0..MESSAGES_PER_TURN_MAX {
            let Some(message) = self.vm.control().recv() else { return };
            match message {
                GuestMessage::Ready => {
                    let lease = HostMessage::Lease { first_slot: 0, generation: self.generation };
                    self.vm.control().send(lease);
                }
                GuestMessage::Bind { slot, incarnation, flow, place, serial } => {
                    let slice = SliceId { slot, incarnation };
                    if self.valve.bindings().in_slot(slot) == Some(slice) {
                        self.join(slice, flow, place as usize, serial);
                    } else {
                        self.bind(slice, flow);
                    }
                }
                GuestMessage::Changed { slot } => {
                    if let Some(slice) = self.valve.bindings().in_slot(slot) {
                        self.valve.want_capture(slice);
                    }
                }
                GuestMessage::Close { slot, incarnation } => self.valve.want_capture(SliceId { slot, incarnation }),
                GuestMessage::Poisoned { slot, incarnation, cause } => {
                    self.give_up(SliceId { slot, incarnation }, format!("poisoned in the guest (cause {cause})"));
                }
                GuestMessage::Plugged { .. } | GuestMessage::Unplugged { .. } => {}
            }
        }
    }

    /// A binding counts only in a leased slot, for a SYN that came in here.
    fn bind(&mut self, slice: SliceId, flow: Flow) {
        let leased = slice.slot < LEASE_SLOTS && slice.incarnation >> 32 == u64::from(self.generation);
        let now = self.now();
        let refused = if leased {
            self.valve.bind(slice, flow, now).err().map(|error| error.to_string())
        } else {
            Some(format!("slice {slice}: its slot is of no lease of this guest"))
        };
        if let Some(cause) = refused {
            self.refused_bindings.push(cause);
            self.vm.control().send(HostMessage::Discard { slot: slice.slot, incarnation: slice.incarnation });
            return;
        }
        for (images, role) in [(&mut self.shadows, Role::Shadow), (&mut self.standby, Role::Standby)] {
            let created = images.create(slice, flow, role);
            assert!(created.is_ok(), "slice {slice} was accepted: {created:?}");
        }
    }

    /// Another connection of a slice counts only for a SYN that came in here, of the slice's client.
    fn join(&mut self, slice: SliceId, flow: Flow, place: usize, serial: u16) {
        let now = self.now();
        let SliceId { slot, incarnation } = slice;
        match self.valve.join(slice, place, flow, now) {
            Ok(()) => assert!(self.shadows.add_flow(slice, place, flow, serial), "{slice} was accepted"),
            Err(cause) => {
                self.refused_bindings.push(cause.to_string());
                self.vm.control().send(HostMessage::ConnectionFree { slot, incarnation, flow });
            }
        }
    }

    /// One slice is lost, and it alone.
    pub(super) fn give_up(&mut self, slice: SliceId, cause: String) {
        if self.valve.bindings().in_slot(slice.slot).is_none_or(|live| live != slice) {
            return;
        }
        self.valve.quarantine(slice);
        self.forget(slice);
        self.quarantined.push((slice, cause));
        self.vm.control().send(HostMessage::Discard { slot: slice.slot, incarnation: slice.incarnation });
    }

    /// Everything held of a slice goes.
    pub(super) fn forget(&mut self, slice: SliceId) {
        self.capturer.forget(slice, self.vm.slots());
        self.valve.discard(slice);
        self.shadows.free(slice);
        self.standby.free(slice);
    }
}
