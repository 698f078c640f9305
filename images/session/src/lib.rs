//! The session server of the freestanding guest: TCP and HTTP restructured around slices.
//!
//! Every client connection, or all connections of a client address together, is one slice with two capsules: TCP (smoltcp sockets with
//! their buffers) and session (HTTP state, or a checked byte stream, and a heap). All of it lies in the slice's slot, so a slot that was copied to another machine is plugged by
//! attaching it; the client keeps its connection. The platform (interrupts, virtio, rings) is behind [`Host`].
//!
//! * [`Server`]: what the platform calls. [`Memory`]: where control pages and arena lie.
//! * [`chain`]: the hash chain over the requests of a session, also for clients.
//! * [`pattern`]: the checked byte pattern of `/bytes` and of the stream port, also for clients.
//!
//! # The stream port
//! Client and server each send [`pattern::pattern`] of the byte's offset in their own direction, from the first byte on and as
//! fast as windows allow. The server checks every byte. When it has the client's FIN it stops making pattern bytes; behind those that
//! it had queued already it sends 16 bytes, `[bytes received: u64 LE][of these wrong: u64 LE]`, and its own FIN. So the client takes
//! the last 16 bytes before the FIN as the trailer and all before as pattern.
//!
//! # The HTTP port
//! | request | reply |
//! |---|---|
//! | `GET`, `PUT`, `DELETE /kv/KEY` | a value in the session's heap; KEY is 1..=255 bytes as they stand in the target |
//! | `POST /counter` | the count after adding one, in decimal |
//! | `GET /bytes?n=N` | the first N bytes of the pattern, N ≤ 2^40 |
//! | `PUT /bytes` | JSON: how many bytes came, how many were not the pattern, BLAKE3 of all |
//! | `POST /dirty?n=N` | changes exactly N ≤ 65,536 bytes of the heap |
//! | `GET /session` | JSON about the slice |
//! | `GET /events?every_ms=N&count=N` | ticks in chunks, one line of JSON each (`{"tick":1,"node":0}`), numbered from 1: the first at once, then one every 10 to 60,000 ms (1,000 unless asked for), without end unless counted. A tick that finds no room waits for it |
//! | `POST /fault?kind=panic\|loop\|null` | breaks the guest while it works on this slice. Only where the boot command line has `faults=on`; else 404 |
//!
//! `HEAD` works where `GET` does. Every reply has `X-Requests` and `X-Chain` ([`chain`]).
#![no_std]

extern crate alloc;

pub mod chain;
mod clock;
mod flows;
mod frame;
mod host;
mod http;
mod memory;
pub mod pattern;
mod pool;
mod seq;
mod server;
mod session;
mod slice_slot;
mod slot;
mod tcp;
mod text;
mod timers;
mod wire;

pub use host::Host;
pub use memory::Memory;
pub use server::{Counters, Server};
pub use slot::layout;
