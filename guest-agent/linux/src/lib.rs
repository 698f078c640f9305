//! The parts of the agent of a Linux guest; the program is `escape-agent`.

pub mod arena;
pub mod error;
pub mod keeping;
pub mod report;
pub mod shell;
pub mod slices;
pub mod vsock;
