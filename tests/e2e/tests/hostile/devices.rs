//! Descriptors, rings, registers, headers.

use super::survive;
use escape_vmm::RxOutcome;
use std::time::Duration;

/// The attack's chains are returned as nonsense, so many of them, and the queue goes on.
fn malformed(attack: &str, chains: u64) {
    let Some(host) = survive(attack) else { return };
    let net = host.vm.metrics().net;
    assert_eq!((net.tx_chains_malformed, net.queues_broken), (chains, 0), "{}", host.told());
    assert_eq!(host.released.len(), 2, "nothing but the honest slice's words leaves\n{}", host.told());
}

#[test]
fn descriptor_loop() {
    malformed("descriptor-loop", 2);
}

#[test]
fn descriptor_outside_ram() {
    malformed("descriptor-outside-ram", 5);
}

#[test]
fn descriptor_length() {
    malformed("descriptor-length", 3);
}

#[test]
fn descriptor_writable() {
    malformed("descriptor-writable", 2);
}

#[test]
fn descriptor_indirect() {
    malformed("descriptor-indirect", 4);
}

#[test]
fn descriptor_next() {
    malformed("descriptor-next", 3);
}

/// The queue cannot be used any more: the device says so, and works again after the driver's reset.
fn needs_reset(attack: &str) {
    let Some(host) = survive(attack) else { return };
    let vm = host.vm.metrics();
    assert_eq!((vm.net.queues_broken, vm.net_transport.needs_reset), (1, 1), "{}", host.told());
    assert_eq!(vm.net_transport.activations, 2, "{}", host.told());
}

#[test]
fn available_jump() {
    needs_reset("available-jump");
}

#[test]
fn available_id() {
    needs_reset("available-id");
}

#[test]
fn queue_outside_ram() {
    let Some(host) = survive("queue-outside-ram") else { return };
    let vm = host.vm.metrics();
    assert_eq!((vm.net_transport.needs_reset, vm.net.queues_broken), (1, 0), "{}", host.told());
}

#[test]
fn reconfigure_live() {
    let Some(host) = survive("reconfigure-live") else { return };
    let vm = host.vm.metrics();
    assert!(vm.net_transport.writes_refused >= 5 * 7, "{}", host.told());
    assert_eq!((vm.net_transport.needs_reset, vm.net_transport.activations), (0, 1), "{}", host.told());
}

#[test]
fn registers() {
    let Some(host) = survive("registers") else { return };
    let vm = host.vm.metrics();
    assert!(vm.rng_transport.accesses_odd > 100 && vm.net_transport.accesses_odd >= 7, "{}", host.told());
    assert!(vm.exits.mmio_unknown > 100, "{}", host.told());
}

#[test]
fn receive_buffers() {
    let Some(mut host) = survive("receive-buffers") else { return };
    for _ in 0..4 {
        assert_eq!(host.vm.net().push_rx(&[0; 200]), RxOutcome::NoBuffer);
    }
    host.turn_for(Duration::from_millis(20));
    let net = host.vm.metrics().net;
    assert_eq!((net.rx_chains_malformed, net.rx_frames, net.queues_broken), (6, 0, 0), "{}", host.told());
}

#[test]
fn short_frames() {
    let Some(host) = survive("short-frames") else { return };
    let net = host.vm.metrics().net;
    assert_eq!((net.tx_headers_refused, net.tx_frames), (25, 2), "{}", host.told());
}

#[test]
fn vnet_header() {
    let Some(host) = survive("vnet-header") else { return };
    let net = host.vm.metrics().net;
    assert_eq!((net.tx_headers_refused, net.tx_frames), (5, 2), "{}", host.told());
}
