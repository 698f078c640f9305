//! How guests end, and that the next one is served.

use super::survive;
use escape_abi::layout::{LEASE_SLOTS, slot_address};
use escape_e2e::hostile::{HONEST, Host};
use escape_vmm::GuestExit;

/// Restarts of a guest that crashes at each start.
const CRASHES: usize = 20;
/// An exception (page fault) that the guest did not survive: `escape_freestanding::runtime::crash`.
const PAGE_FAULT: GuestExit = GuestExit::Crash { code: 0x30e };

/// The guest ends this way, and the next guest of the same VM is served.
fn ends(attack: &str, wanted: GuestExit) -> Option<Host> {
    let mut host = Host::attacked_by(attack)?;
    for life in 1..=2 {
        host.turn_until("the guest's end", |host| host.exits.len() == life);
        assert_eq!(host.exits.last(), Some(&wanted), "{}", host.told());
        // What the guest has shown before its end is still taken.
        host.turn_until("the honest slice's word", |host| host.said(HONEST, b"before"));
        assert!(!host.said(HONEST, b"after"), "{}", host.told());
        host.restart();
    }
    println!("{attack}: {wanted}");
    Some(host)
}

#[test]
fn unleased_read() {
    let gpa = slot_address(LEASE_SLOTS) + 0x1230;
    let Some(host) = ends("unleased-read", GuestExit::UnleasedArena { gpa, write: false }) else { return };
    assert!(host.vm.metrics().exits.unleased_arena >= 2);
    assert!(host.exits[0].to_string().contains("read from arena address 0x1001001230"), "{}", host.exits[0]);
}

#[test]
fn unleased_write() {
    let gpa = slot_address(LEASE_SLOTS) + 0x1230;
    ends("unleased-write", GuestExit::UnleasedArena { gpa, write: true });
}

#[test]
fn beyond_arena() {
    ends("beyond-arena", PAGE_FAULT);
}

#[test]
fn execute_arena() {
    ends("execute-arena", PAGE_FAULT);
}

#[test]
fn ports() {
    let Some(host) = survive("ports") else { return };
    assert!(host.vm.metrics().exits.ports > 100, "{}", host.told());
}

#[test]
fn crash_loop() {
    let Some(mut host) = Host::attacked_by("crash") else { return };
    for life in 1..=CRASHES {
        host.turn_until("the guest's end", |host| host.exits.len() == life);
        assert_eq!(host.exits.last(), Some(&GuestExit::Crash { code: 0x666 }), "{}", host.told());
        host.turn_until("the honest slice's word", |host| host.said(HONEST, b"before"));
        host.restart();
    }
    assert_eq!(host.vm.metrics().boots as usize, CRASHES + 1);
}
