//! `escape doctor`: what this machine lacks, and how to mend it, before the first stumble.

mod check;
mod diagnosis;
mod kernel_calls;
mod kvm;
mod network;
mod privileges;
mod resources;

pub use check::{Check, Status};
pub use diagnosis::Diagnosis;
