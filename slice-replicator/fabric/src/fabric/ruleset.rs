//! The table's sets, chains and rules, in the words of `nft` (which prints raw offsets for some of the fields):
//! ```text
//! chain from_clients { type filter hook ingress device <uplink> priority 0; policy drop;
//!     ether type ip  ip daddr <service>  ip protocol tcp  <no fragment>
//!         meta mark set ip saddr . tcp sport . tcp dport map @pair  goto steer
//!     … a reason is found and counted …
//!     tcp flags & (fin|syn|rst|ack) == syn  tcp dport @service_ports  goto place
//! }
//! chain place { meta mark set jhash ip saddr . tcp sport . tcp dport mod 4096 seed … map @bucket  goto learn }
//! chain learn { update @pair { ip saddr . tcp sport . tcp dport : meta mark }  goto steer }
//! chain steer { dup to meta mark map @mirror
//!               fwd to meta mark map @owner }
//! chain from_node_7 { type filter hook ingress devices = { <data>, <mirror> } priority 0; policy drop;
//!     ether type ip  ether saddr <service>  ip saddr <service>  ip protocol tcp  <no fragment>
//!         meta mark set ip daddr . tcp dport . tcp sport map @pair  meta mark . iif @may_send  fwd to <uplink>
//!     counter drop
//! }
//! ```
//! Where flows are steered by client ([`super::PlaceBy::Client`]), both ports of a key are 0, the hash is of `ip saddr` alone, and
//! the two rules that look a flow up check first that the service's port is one of `@service_ports`.
//!
//! The mirror is sent before the frame itself: the standby has a copy of whatever the owner can have seen.

use super::config::FabricConfig;
use super::counters::{drop_counter, names, sent_counter};
use super::{BUCKETS, FLOWS_MAX, GROUPS_MAX, PlaceBy};
use crate::NodeId;
use crate::nft::Expression::{self, *};
use crate::nft::{DataType, MetaKey, PayloadBase, Register, SetSpec, TableOwnership, Transaction, Verdict};

pub(super) const PAIR: &str = "pair";
pub(super) const BUCKET: &str = "bucket";
pub(super) const OWNER: &str = "owner";
pub(super) const MIRROR: &str = "mirror";
pub(super) const MAY_SEND: &str = "may_send";
const SERVICE_PORTS: &str = "service_ports";

const FROM_CLIENTS: &str = "from_clients";
const PLACE: &str = "place";
const LEARN: &str = "learn";
const STEER: &str = "steer";

/// The first three registers take a flow's key; the first is also used for whatever is compared.
const A: Register = Register::word(0);
const B: Register = Register::word(1);
const C: Register = Register::word(2);
const D: Register = Register::word(3);

const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const PROTOCOL_ICMP: [u8; 1] = [1];
const PROTOCOL_TCP: [u8; 1] = [6];
/// "More fragments" and the fragment offset.
const FRAGMENT_BITS: [u8; 2] = [0x3f, 0xff];
/// FIN, SYN, RST and ACK; a new connection begins with SYN alone.
const OPENING_FLAGS: [u8; 1] = [0x17];
const SYN: [u8; 1] = [0x02];

const DROP: Expression<'_> = Decide(Verdict::Drop);

/// Adds the whole table but for node ports and contents.
pub(super) fn install(config: &FabricConfig, ownership: TableOwnership, transaction: &mut Transaction) {
    transaction.destroy_table();
    transaction.add_table(ownership);
    names::ALL.iter().for_each(|name| transaction.add_counter(name));
    add_sets(config, transaction);
    for chain in [STEER, LEARN, PLACE] {
        transaction.add_chain(chain);
    }
    add_steering(transaction);
    add_placing(config, transaction);
    transaction.add_ingress_chain(FROM_CLIENTS, &[&config.uplink]);
    add_client_rules(config, transaction);
}

fn add_sets(config: &FabricConfig, transaction: &mut Transaction) {
    use DataType::{Interface, Ipv4Address, Mark, Port};
    let plain = SetSpec { name: "", key: &[Mark], value: None, size: GROUPS_MAX, learned: false, expires: false };
    transaction.add_set(&SetSpec {
        name: PAIR,
        key: &[Ipv4Address, Port, Port],
        value: Some(Mark),
        size: FLOWS_MAX,
        learned: true,
        expires: config.learned_expiry.is_some(),
    });
    transaction.add_set(&SetSpec { name: BUCKET, value: Some(Mark), size: BUCKETS.into(), ..plain });
    transaction.add_set(&SetSpec { name: OWNER, value: Some(Interface), ..plain });
    transaction.add_set(&SetSpec { name: MIRROR, value: Some(Interface), ..plain });
    transaction.add_set(&SetSpec { name: MAY_SEND, key: &[Mark, Interface], ..plain });
    transaction.add_set(&SetSpec { name: SERVICE_PORTS, key: &[Port], size: 1_000, ..plain });
    let mut ports = config.tcp_ports.clone();
    ports.sort_unstable();
    ports.dedup();
    let ports: Vec<_> = ports.into_iter().map(|port| (port.to_be_bytes(), [])).collect();
    transaction.add_elements(SERVICE_PORTS, &ports);
}

/// Adds what receives from one node: its chain and its counters.
pub(super) fn add_port(
    config: &FabricConfig,
    uplink_index: u32,
    node: NodeId,
    devices: &[&str],
    transaction: &mut Transaction,
) {
    let (chain, sent, dropped) = (port_chain(node), sent_counter(node), drop_counter(node));
    transaction.add_counter(&sent);
    transaction.add_counter(&dropped);
    transaction.add_ingress_chain(&chain, devices);
    add_permission(config, uplink_index, &chain, &sent, transaction);
    transaction.add_rule(&chain, &[Count(&dropped), DROP]);
}

/// Removes what receives from one node. Its interfaces, if they are still there, belong to nobody then.
pub(super) fn remove_port(node: NodeId, transaction: &mut Transaction) {
    transaction.delete_chain(&port_chain(node));
    transaction.delete_counter(&sent_counter(node));
    transaction.delete_counter(&drop_counter(node));
}

fn port_chain(node: NodeId) -> String {
    format!("from_node_{node}")
}

fn add_client_rules(config: &FabricConfig, transaction: &mut Transaction) {
    let service = config.service.octets();
    let mut rule = |steps: &[Expression<'_>]| transaction.add_rule(FROM_CLIENTS, steps);
    // The way of almost all frames is the first rule; the others find out what is wrong with the rest.
    rule(
        &[
            &[ether_type(), Equals(A, &ETHERTYPE_IPV4), destination(A), Equals(A, &service)][..],
            &whole_tcp(),
            &flow_key(config, Side::Client),
            &[Lookup { set: PAIR, key: A, value: Some(A) }, StoreMark(A), Decide(Verdict::GoTo(STEER))],
        ]
        .concat(),
    );
    rule(&[ether_type(), Equals(A, &ETHERTYPE_ARP), Count(names::ARP), Decide(Verdict::Accept)]);
    rule(&[ether_type(), Differs(A, &ETHERTYPE_IPV4), Count(names::OTHER), DROP]);
    rule(&[destination(A), Differs(A, &service), Count(names::NOT_SERVICE), DROP]);
    rule(&[protocol(), Equals(A, &PROTOCOL_ICMP), Count(names::ICMP), DROP]);
    rule(&[protocol(), Differs(A, &PROTOCOL_TCP), Count(names::NOT_TCP), DROP]);
    rule(&[fragment(), Mask(A, &FRAGMENT_BITS), Differs(A, &[0, 0]), Count(names::FRAGMENT), DROP]);
    let to_service = Lookup { set: SERVICE_PORTS, key: A, value: None };
    let goto_place = Decide(Verdict::GoTo(PLACE));
    rule(&[tcp_flags(), Mask(A, &OPENING_FLAGS), Equals(A, &SYN), destination_port(A), to_service, goto_place]);
    rule(&[destination_port(A), to_service, Count(names::UNKNOWN_FLOW), DROP]);
    rule(&[destination_port(A), Count(names::WRONG_PORT), DROP]);
    rule(&[Count(names::OTHER), DROP]);
}

fn add_placing(config: &FabricConfig, transaction: &mut Transaction) {
    let len = config.place_by.key_len() as u32;
    let hash = JenkinsHash { from: A, len, modulus: BUCKETS.into(), seed: config.hash_seed, into: D };
    let choose = [hash, Lookup { set: BUCKET, key: D, value: Some(D) }, StoreMark(D), Decide(Verdict::GoTo(LEARN))];
    let key = flow_key(config, Side::Client);
    transaction.add_rule(PLACE, &[&key[..], &choose].concat());
    transaction.add_rule(PLACE, &[Count(names::NO_BUCKET), DROP]);
    let learn = [
        LoadMeta(MetaKey::Mark, D),
        Learn { map: PAIR, key: A, value: D, expires: config.learned_expiry },
        Count(names::PLACED),
        Decide(Verdict::GoTo(STEER)),
    ];
    transaction.add_rule(LEARN, &[&key[..], &learn].concat());
    transaction.add_rule(LEARN, &[Count(names::FLOWS_FULL), DROP]);
}

fn add_steering(transaction: &mut Transaction) {
    let mark = LoadMeta(MetaKey::Mark, A);
    let to_mirror = Lookup { set: MIRROR, key: A, value: Some(A) };
    transaction.add_rule(STEER, &[mark, to_mirror, Count(names::MIRRORED), Duplicate(A)]);
    let to_owner = Lookup { set: OWNER, key: A, value: Some(A) };
    transaction.add_rule(STEER, &[mark, to_owner, Count(names::STEERED), Forward(A)]);
    transaction.add_rule(STEER, &[Count(names::NO_OWNER), DROP]);
}

/// The one rule by which a node's frame can leave.
fn add_permission(config: &FabricConfig, uplink_index: u32, chain: &str, sent: &str, transaction: &mut Transaction) {
    let service = config.service.octets();
    let ether_source = LoadPayload { base: PayloadBase::Ethernet, offset: 6, len: 6, into: A };
    let from_service = [
        ether_type(),
        Equals(A, &ETHERTYPE_IPV4),
        ether_source,
        Equals(A, &config.service_mac),
        source(A),
        Equals(A, &service),
    ];
    let node_key = flow_key(config, Side::Service);
    let may_send = [
        Lookup { set: PAIR, key: A, value: Some(A) },
        // By way of the mark, so that `nft` can print the rule.
        StoreMark(A),
        LoadMeta(MetaKey::Mark, A),
        LoadMeta(MetaKey::InputInterface, B),
        Lookup { set: MAY_SEND, key: A, value: None },
        Count(sent),
        LoadWord(uplink_index, A),
        Forward(A),
    ];
    transaction.add_rule(chain, &[&from_service[..], &whole_tcp(), &node_key, &may_send].concat());
}

/// Goes on if the packet is TCP and no fragment.
fn whole_tcp() -> [Expression<'static>; 5] {
    [protocol(), Equals(A, &PROTOCOL_TCP), fragment(), Mask(A, &FRAGMENT_BITS), Equals(A, &[0, 0])]
}

/// Who sent a frame.
#[derive(Clone, Copy)]
enum Side {
    Client,
    Service,
}

/// Loads the key by which the flow of a frame is steered. Goes on only if it is of a protected port: a flow's own key says so, a
/// client's does not.
fn flow_key(config: &FabricConfig, sender: Side) -> Vec<Expression<'static>> {
    let (client, client_port, service_port) = match sender {
        Side::Client => (source(A), source_port(B), destination_port(C)),
        Side::Service => (destination(A), destination_port(B), source_port(C)),
    };
    match config.place_by {
        PlaceBy::Flow => vec![client, client_port, service_port],
        PlaceBy::Client => {
            let protected = Lookup { set: SERVICE_PORTS, key: C, value: None };
            vec![service_port, protected, client, LoadWord(0, B), LoadWord(0, C)]
        }
    }
}

const fn ether_type() -> Expression<'static> {
    LoadPayload { base: PayloadBase::Ethernet, offset: 12, len: 2, into: A }
}

const fn fragment() -> Expression<'static> {
    LoadPayload { base: PayloadBase::Network, offset: 6, len: 2, into: A }
}

const fn protocol() -> Expression<'static> {
    LoadPayload { base: PayloadBase::Network, offset: 9, len: 1, into: A }
}

const fn source(into: Register) -> Expression<'static> {
    LoadPayload { base: PayloadBase::Network, offset: 12, len: 4, into }
}

const fn destination(into: Register) -> Expression<'static> {
    LoadPayload { base: PayloadBase::Network, offset: 16, len: 4, into }
}

const fn source_port(into: Register) -> Expression<'static> {
    LoadPayload { base: PayloadBase::Transport, offset: 0, len: 2, into }
}

const fn destination_port(into: Register) -> Expression<'static> {
    LoadPayload { base: PayloadBase::Transport, offset: 2, len: 2, into }
}

const fn tcp_flags() -> Expression<'static> {
    LoadPayload { base: PayloadBase::Transport, offset: 13, len: 1, into: A }
}
