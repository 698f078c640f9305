//! Every attack, by name. The tests of the host half have the same names.

use crate::guest::Guest;
use crate::{devices, life, output, rings, slices};

/// What an attack does; it may end the guest.
pub type Attack = fn(&mut Guest);

/// Names and attacks.
pub const ATTACKS: &[(&str, Attack)] = &[
    ("none", |_| {}),
    ("descriptor-loop", devices::descriptor_loop),
    ("descriptor-outside-ram", devices::descriptor_outside_ram),
    ("descriptor-length", devices::descriptor_length),
    ("descriptor-writable", devices::descriptor_writable),
    ("descriptor-indirect", devices::descriptor_indirect),
    ("descriptor-next", devices::descriptor_next),
    ("available-jump", devices::available_jump),
    ("available-id", devices::available_id),
    ("queue-outside-ram", devices::queue_outside_ram),
    ("reconfigure-live", devices::reconfigure_live),
    ("registers", devices::registers),
    ("receive-buffers", devices::receive_buffers),
    ("short-frames", devices::short_frames),
    ("vnet-header", devices::vnet_header),
    ("ring-garbage", rings::garbage),
    ("ring-index", rings::index),
    ("ring-claims", rings::claims),
    ("ring-flood", rings::flood),
    ("ring-head", rings::head),
    ("live-range-outside", slices::live_range_outside),
    ("live-range-overflow", slices::live_range_overflow),
    ("live-range-sum", slices::live_range_sum),
    ("incarnation-of-another", slices::incarnation_of_another),
    ("reference-held", slices::reference_held),
    ("word-garbage", slices::word_garbage),
    ("generation-back", slices::generation_back),
    ("sequence-beyond-state", slices::sequence_beyond_state),
    ("acknowledges-more", slices::acknowledges_more),
    ("bind-unseen", slices::bind_unseen),
    ("bind-unleased", slices::bind_unleased),
    ("bind-twice", slices::bind_twice),
    ("join-others", slices::join_others),
    ("connection-never-bound", slices::connection_never_bound),
    ("never-commits", slices::never_commits),
    ("ignores-hold", slices::ignores_hold),
    ("unbound-flow", output::unbound_flow),
    ("unprotected", output::unprotected),
    ("hidden-tcp", output::hidden_tcp),
    ("spoofed", output::spoofed),
    ("horizon", output::horizon),
    ("flood", output::flood),
    ("unleased-read", life::unleased_read),
    ("unleased-write", life::unleased_write),
    ("beyond-arena", life::beyond_arena),
    ("execute-arena", life::execute_arena),
    ("ports", life::ports),
    ("crash", life::crash),
];

/// The attack of a name.
pub fn find(name: &str) -> Option<Attack> {
    ATTACKS.iter().find(|(known, _)| *known == name).map(|(_, attack)| *attack)
}
