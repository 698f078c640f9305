//! How a cell is, for people and programs.

mod report;
mod screen;

pub use report::StatusReport;
