//! HTTP/1.1 (RFC 9110, 9112) for one session.

mod body;
mod exchange;
mod head;
mod heap;
mod kv;
mod outgoing;
mod reply;
mod route;
mod sink;

pub(crate) use exchange::{BodyScratch, Exchange, HttpState, Place};
pub(crate) use heap::SliceHeap;
