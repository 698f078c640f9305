//! The sample service of Linux guests: what the freestanding guest serves, in part, by an ordinary Linux process over the kernel's TCP.
//!
//! The HTTP port has `POST /counter`, `GET /session` and `GET /bytes?n=N`, the stream port the checked byte stream; both are told in
//! `escape_session`'s documentation. Every connection is a slice: its count, how far its reply is and what it has still to say go on when
//! its machine dies. `POST /fault?kind=exit` ends the process a second later, in the middle of a turn.
//!
//! `escape-sessions cost [ROUNDS]` measures instead what a turn costs on this machine.

mod cost;
mod http;
mod serve;
mod stream;

use anyhow::{Context, Result, bail};
use serve::Server;
use std::net::{Ipv4Addr, TcpListener};

/// Ports unless the kernel's command line says others.
const HTTP_PORT: u16 = 80;
const STREAM_PORT: u16 = 9000;

/// Turns that `cost` measures unless told otherwise.
const COST_ROUNDS: usize = 20_000;

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    match words.next().as_deref() {
        None => serve(),
        Some("cost") => {
            cost::measure(words.next().map_or(Ok(COST_ROUNDS), |n| n.parse()).context("a number of rounds")?)
        }
        Some(other) => bail!("{other}: only `cost [ROUNDS]` is known"),
    }
}

fn serve() -> Result<()> {
    let cmdline = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let word = |name: &str| cmdline.split_ascii_whitespace().rev().find_map(|word| word.strip_prefix(name));
    let port = |name: &str, default: u16| word(name).map_or(Ok(default), str::parse).context("a port");
    let (http, stream) = (port("escape.http=", HTTP_PORT)?, port("escape.stream=", STREAM_PORT)?);
    let node = word("escape.cell=").map_or(Ok(0), str::parse).context("the node's id")?;
    let listen = |port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).with_context(|| format!("port {port}"));
    Server::new(listen(http)?, listen(stream)?, [http, stream], node)?.run()
}
