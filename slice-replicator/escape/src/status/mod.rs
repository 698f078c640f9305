//! How a cell is: the question to its orchestrator, and what people read of the answer.

mod ask;
mod error;
mod report;
mod screen;

pub use ask::ask;
pub use error::StatusError;
pub use report::StatusReport;
