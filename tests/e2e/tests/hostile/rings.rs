//! The control rings.

use super::survive;
use escape_abi::HostMessage;
use escape_e2e::hostile::HONEST;

#[test]
fn ring_garbage() {
    let Some(mut host) = survive("ring-garbage") else { return };
    // Skipped in bounded steps: frames have their turn between.
    host.turn_until("the end of the garbage", |host| host.vm.metrics().control.malformed >= 303);
    assert_eq!(host.vm.metrics().control.malformed, 303, "{}", host.told());
    assert!(host.quarantined.is_empty() && host.refused_bindings.is_empty(), "{}", host.told());
}

#[test]
fn ring_index() {
    let Some(host) = survive("ring-index") else { return };
    let control = host.vm.metrics().control;
    assert_eq!((control.indices_impossible, control.malformed), (3, 0), "{}", host.told());
}

#[test]
fn ring_claims() {
    let Some(host) = survive("ring-claims") else { return };
    assert!(host.vm.metrics().control.received >= 3 + 4 * 13, "{}", host.told());
    assert!(host.quarantined.is_empty(), "a claim about a slice that is not there\n{}", host.told());
}

#[test]
fn ring_flood() {
    let Some(host) = survive("ring-flood") else { return };
    assert!(host.vm.metrics().control.received >= 100_000, "{}", host.told());
    assert!(host.quarantined.is_empty(), "{}", host.told());
}

/// The guest has lied about what it has read: it gets no message any more, the host's queue stays bounded, and a new
/// guest is served.
#[test]
fn ring_head() {
    let Some(mut host) = survive("ring-head") else { return };
    let control = host.vm.control();
    let taken = (0..20_000u32).filter(|n| control.send(HostMessage::SlotFree { slot: n % 64, incarnation: 1 })).count();
    assert_eq!(taken, 8192, "{}", host.told());
    assert_eq!(host.vm.control().overflowing(), 8192);
    assert_eq!(host.vm.metrics().control.refused, 20_000 - 8192);
    host.restart();
    host.turn_until("the honest slice of the next guest", |host| host.said(HONEST, b"before"));
    assert_eq!(host.vm.control().overflowing(), 0);
}
