//! HTTP/1.1 (RFC 9110, 9112) for one session.

mod body;
mod connection;
mod exchange;
mod fault;
mod head;
mod heap;
mod kv;
mod outgoing;
mod reply;
mod route;
mod sink;
mod state;
mod ticks;

pub(crate) use exchange::{Exchange, Place};
pub(crate) use fault::wanted as faults_wanted;
pub(crate) use heap::SliceHeap;
pub(crate) use state::{BodyScratch, HttpConnection, HttpState};
