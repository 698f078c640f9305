//! The failover drill: real clients, a real fault, a verdict per promise.
//!
//! `driver` and `round` are the sequence, over the [`Cell`] trait; `evidence` is what they find, `verdict` judges it,
//! `report` and `words` tell it to programs and to people.

mod cell_trait;
mod drill_result;
mod driver;
mod error;
mod evidence;
mod fault;
mod options;
mod progress;
mod quantiles;
mod report;
mod round;
mod timeline;
mod verdict;
mod words;

pub use cell_trait::{Cell, CellError, Reprotection, ServiceAddresses};
pub use drill_result::DrillResult;
pub use driver::hold;
pub use error::DrillError;
pub use evidence::Evidence;
pub use fault::{Break, Fault};
pub use options::{DrillOptions, IN_FLIGHT_WANTED};
pub use progress::Progress;
pub use quantiles::Quantiles;
pub use report::Report;
pub use timeline::{EventKind, Noticed, Step, Timeline, TimelineEvent};
pub use verdict::{Finding, GAP_GOAL_P50_MS, GAP_GOAL_P99_MS, GAP_LIMIT_P50_MS, Promise, Verdict};
pub use words::tell;
