//! What people ask a cell's orchestrator, over a link of their own.

mod ask;
mod error;
mod session;

pub use ask::ask;
pub use error::OperatorError;
pub use session::{Session, SessionError};
