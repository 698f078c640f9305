//! A guest that misbehaves on purpose: the guest half of the tests in `tests/e2e/tests/hostile`.
//!
//! The boot command line names the attack ([`attack::ATTACKS`]). Two slices are bound, an honest one and a bad one. The
//! honest one speaks before and after the attack, by the rules; that what it says arrives shows that the attack harmed
//! nobody but its author. An attack may also end the guest.
#![no_std]
#![no_main]

extern crate alloc;

mod attack;
mod devices;
mod guest;
mod life;
mod output;
mod packet;
mod random;
mod rings;
mod slice;
mod slices;
mod wire;

use escape_freestanding::runtime::{crash, log};
use escape_freestanding::{BootParams, image};
use guest::Guest;

image!(main = run, recover = recover);

/// Crash code: no attack has the name of the command line.
const UNKNOWN_ATTACK: u32 = 0x400;
/// Crash code: the guest could not be set up.
const NO_SETUP: u32 = 0x401;

fn run(params: &'static BootParams) -> ! {
    let end = params.cmdline.iter().position(|byte| *byte == 0).unwrap_or(params.cmdline.len());
    let name = core::str::from_utf8(&params.cmdline[..end]).unwrap_or("(not UTF-8)");
    let Some(attack) = attack::find(name) else {
        log!("hostile: there is no attack {name:?}");
        crash::end(UNKNOWN_ATTACK)
    };
    let Some(mut guest) = Guest::start(params) else {
        log!("hostile: the guest could not be set up");
        crash::end(NO_SETUP)
    };
    guest.honest_says(b"before");
    attack(&mut guest);
    guest.honest_says(b"after");
    guest.rest()
}

/// Nothing is survived: the fault's code is reported.
fn recover(_cause: u32) {}
