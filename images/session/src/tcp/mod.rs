//! The TCP capsule: a smoltcp socket that lives in the slot, with everything that makes it survive a move.

mod attachments;
mod layer;
mod pipe;
mod retransmit;
mod state;

pub(crate) use layer::{TcpEvent, TcpLayer, WRONG_IMAGE};
pub(crate) use pipe::Pipe;
pub(crate) use state::{TcpState, phase};
