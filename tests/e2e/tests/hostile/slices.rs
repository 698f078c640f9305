//! What slices publish, reference, bind and send.

use super::survive;
use escape_e2e::hostile::{BAD, HONEST, Host};
use escape_vmm::commit::DropCause;
use std::time::Duration;

/// Bytes that one slice may have held.
const SLICE_BYTES_MAX: usize = 512 << 10;

/// The bad slice is given up for this reason, and nothing else is.
fn given_up(attack: &str, cause: &str) -> Option<Host> {
    let mut host = survive(attack)?;
    host.turn_until("the bad slice's end", |host| !host.quarantined.is_empty());
    host.turn_for(Duration::from_millis(20));
    assert_eq!(host.quarantined.len(), 1, "{}", host.told());
    let (slice, told) = &host.quarantined[0];
    assert_eq!((slice.slot, slice.incarnation), (1, 1 << 32 | 2), "{}", host.told());
    assert!(told.contains(cause), "{told:?} does not say {cause:?}");
    assert!(!host.said(BAD, b"never"), "{}", host.told());
    assert_eq!(host.valve.held_bytes(), 0, "{}", host.told());
    println!("{attack}: {told}");
    Some(host)
}

#[test]
fn live_range_outside() {
    let wanted = "live range 0 (offset 0x3ffc0, 128 bytes) reaches out of the slot of 0x40000 bytes";
    let Some(host) = given_up("live-range-outside", wanted) else { return };
    assert_eq!(host.capturer.metrics().lies, 1);
}

#[test]
fn live_range_overflow() {
    let Some(host) = given_up("live-range-overflow", "live range 0 (offset 0xffffffc0, 128 bytes)") else { return };
    assert_eq!(host.capturer.metrics().lies, 1);
}

#[test]
fn live_range_sum() {
    let Some(host) = given_up("live-range-sum", "more than a slot has") else { return };
    assert_eq!(host.capturer.metrics().lies, 1);
}

#[test]
fn incarnation_of_another() {
    let Some(host) = given_up("incarnation-of-another", "the guest published incarnation 0x100000003") else { return };
    assert_eq!(host.capturer.metrics().lies, 1);
}

#[test]
fn reference_held() {
    let Some(host) = given_up("reference-held", "hangs: a reference of generation 1") else { return };
    assert_eq!(host.capturer.metrics().hanging, 1);
    assert!(host.said(BAD, b"first"), "what was committed before did leave");
}

#[test]
fn word_garbage() {
    let Some(host) = given_up("word-garbage", "hangs: a reference of generation 281474976710655") else { return };
    assert_eq!(host.capturer.metrics().hanging, 1);
}

#[test]
fn sequence_beyond_state() {
    let Some(host) = given_up("sequence-beyond-state", "I1: frame ends at sequence 0x3ed") else { return };
    assert_eq!(host.valve.metrics().breaches, 1);
}

#[test]
fn acknowledges_more() {
    let Some(host) = given_up("acknowledges-more", "I1: frame acknowledges 0x1770") else { return };
    assert_eq!((host.valve.metrics().breaches, host.frames_of(BAD)), (1, 0), "{}", host.told());
}

/// Found at once, before the frame is held: its generation counts as committed, its numbers do not.
#[test]
fn generation_back() {
    let Some(host) = given_up("generation-back", "I1: frame ends at sequence") else { return };
    let valve = host.valve.metrics();
    assert_eq!((valve.breaches, valve.dropped_for(DropCause::Quarantined)), (1, 1), "{}", host.told());
    assert_eq!(host.frames_of(BAD), 3, "{}", host.told());
}

#[test]
fn bind_unseen() {
    let Some(host) = survive("bind-unseen") else { return };
    assert_eq!(host.refused_bindings.len(), 4, "{}", host.told());
    for (refused, port) in host.refused_bindings.iter().zip(5002..) {
        assert!(refused.contains(&format!("no SYN from client port {port} was received here")), "{refused}");
    }
}

#[test]
fn bind_unleased() {
    let Some(host) = survive("bind-unleased") else { return };
    assert_eq!(host.refused_bindings.len(), 4, "{}", host.told());
}

#[test]
fn bind_twice() {
    let Some(host) = survive("bind-twice") else { return };
    assert_eq!(host.refused_bindings.len(), 2, "{}", host.told());
    let owner = host.valve.bindings().slice_of(&HONEST).unwrap();
    assert_eq!((owner.slot, owner.incarnation), (0, 1 << 32 | 1));
    let owner = host.valve.bindings().slice_of(&BAD).unwrap();
    assert_eq!((owner.slot, owner.incarnation), (1, 1 << 32 | 2));
}

#[test]
fn join_others() {
    let Some(host) = survive("join-others") else { return };
    let causes =
        ["its flow belongs to slice", "place 0 of 4 is not free", "no SYN from client port 6000", "another client"];
    assert_eq!(host.refused_bindings.len(), causes.len(), "{}", host.told());
    for (refused, cause) in host.refused_bindings.iter().zip(causes) {
        assert!(refused.contains(cause), "{refused:?} does not say {cause:?}");
    }
    assert_eq!((host.valve.bindings().len(), host.quarantined.len()), (2, 0), "{}", host.told());
}

#[test]
fn connection_never_bound() {
    let Some(host) = given_up("connection-never-bound", "hangs") else { return };
    assert_eq!(host.capturer.metrics().hanging, 1);
}

#[test]
fn never_commits() {
    let Some(host) = given_up("never-commits", "hangs") else { return };
    let valve = host.valve.metrics();
    let refused = valve.dropped_for(DropCause::SliceQuota) + valve.dropped_for(DropCause::Unbound);
    assert!(valve.held <= 256 + 2 && refused >= 2000 - 256, "{}", host.told());
    assert!(host.held_bytes_max <= SLICE_BYTES_MAX + 4096, "{} bytes held", host.held_bytes_max);
}

#[test]
fn ignores_hold() {
    let Some(host) = survive("ignores-hold") else { return };
    assert!(host.capturer.metrics().holds > 0 || host.capturer.metrics().captured > 10, "{}", host.told());
}
