//! A guest that misbehaves on purpose, in a real VM: whatever it does, the VMM lives, says what happened, and serves the
//! honest slice beside it. The guest half is `images/freestanding/src/hostile`; attacks have the same names there.
#![allow(clippy::unwrap_used)]

mod devices;
mod life;
mod output;
mod rings;
mod slices;

use escape_e2e::hostile::{BAD, Host};

/// Makes an attack that the guest survives, and waits for its end. The bad slice must not have said "never".
fn survive(attack: &str) -> Option<Host> {
    let mut host = Host::attacked_by(attack)?;
    host.wait_for_the_end_of_the_attack();
    assert!(!host.said(BAD, b"never"), "output without committed state was released\n{}", host.told());
    println!("{attack}: longest turn {:?}, at most {} bytes held", host.longest_turn, host.held_bytes_max);
    Some(host)
}

#[test]
fn a_guest_that_does_nothing_bad_is_not_accused() {
    let Some(mut host) = survive("none") else { return };
    host.turn_for(std::time::Duration::from_millis(100));
    let (vm, valve) = (host.vm.metrics(), *host.valve.metrics());
    assert_eq!((host.released.len(), valve.held, valve.released), (2, 2, 2), "{}", host.told());
    assert_eq!((valve.dropped.iter().sum::<u64>(), valve.breaches, valve.refused_bindings), (0, 0, 0));
    assert_eq!((vm.net.tx_chains_malformed, vm.net.tx_headers_refused, vm.net.queues_broken), (0, 0, 0));
    assert_eq!((vm.control.malformed, vm.control.indices_impossible, vm.net_transport.accesses_odd), (0, 0, 0));
    assert!(host.quarantined.is_empty() && host.refused_bindings.is_empty());
}

#[test]
fn an_attack_that_does_not_exist_is_no_success() {
    let Some(mut host) = Host::attacked_by("misspelt") else { return };
    host.turn_until("the guest's end", |host| !host.exits.is_empty());
    assert_eq!(host.exits, [escape_vmm::GuestExit::Crash { code: 0x400 }], "{}", host.told());
}
