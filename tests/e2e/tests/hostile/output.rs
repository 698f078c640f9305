//! Frames that no slice stands behind: none of them leaves, each is counted by its cause.

use super::survive;
use escape_vmm::commit::DropCause;

/// So many frames are dropped for this cause, and none for another.
fn dropped(attack: &str, cause: DropCause, frames: u64) {
    let Some(host) = survive(attack) else { return };
    let valve = host.valve.metrics();
    assert_eq!(valve.dropped_for(cause), frames, "{cause}\n{}", host.told());
    assert_eq!(valve.dropped.iter().sum::<u64>(), frames, "only for one cause: {cause}\n{}", host.told());
    assert!(host.quarantined.is_empty(), "{}", host.told());
}

#[test]
fn unbound_flow() {
    dropped("unbound-flow", DropCause::Unbound, 7);
}

#[test]
fn unprotected() {
    dropped("unprotected", DropCause::Unprotected, 5);
}

#[test]
fn hidden_tcp() {
    dropped("hidden-tcp", DropCause::Unparsable, 11);
}

#[test]
fn spoofed() {
    dropped("spoofed", DropCause::Spoofed, 4);
}

#[test]
fn horizon() {
    dropped("horizon", DropCause::Horizon, 1);
}

#[test]
fn flood() {
    dropped("flood", DropCause::Unbound, 50_000);
}
