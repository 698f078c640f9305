//! A world without machines: one guest's server, an arena, a standby that keeps images, clients, and a wire that loses and reorders.
//! Time is virtual; one seed drives everything.
#![allow(dead_code, clippy::unwrap_used)]

pub mod arena;
pub mod client;
pub mod guest;
pub mod http;
pub mod oracle;
pub mod raw;
pub mod rng;
pub mod segment;
pub mod standby;
pub mod unacknowledged;
pub mod world;

pub use client::{App, Client};
pub use rng::{Rng, Seeds};
pub use world::World;

pub const SERVER_IP: [u8; 4] = [10, 77, 0, 2];
pub const SERVER_MAC: [u8; 6] = [2, 0, 0, 77, 0, 2];
pub const HTTP: u16 = 80;
pub const STREAM: u16 = 7777;
pub const IMAGE_ID: u64 = 0x1234_5678_9abc_def0;
pub const MS: i64 = 1000;
pub const SECOND: i64 = 1_000_000;

/// A seed from the environment, or the default; printed, so that a failure can be replayed.
pub fn seed(default: u64) -> u64 {
    let seed = std::env::var("SESSION_SEED").map_or(default, |s| s.parse().unwrap());
    println!("replay with SESSION_SEED={seed}");
    seed
}
