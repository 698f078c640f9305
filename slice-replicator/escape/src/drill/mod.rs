//! The failover drill: real clients, real faults, a verdict per promise.
//!
//! | file | what |
//! |---|---|
//! | `options`, `plan`, `strike`, `place`, `then`, `must` | what a drill is asked to do, by command line or file |
//! | `driver`, `round`, `chooser`, `injury`, `losses` | the sequence, over the [`Cell`] trait |
//! | `evidence`, `timeline`, `quantiles` | what it finds |
//! | `verdict` | the judgement |
//! | `report`, `words`, `summary` | for programs, for people, for many drills at once |

mod cell_trait;
mod chooser;
mod drill_result;
mod driver;
mod error;
mod evidence;
mod fault;
mod injury;
mod losses;
mod must;
mod options;
mod place;
mod plan;
mod progress;
mod quantiles;
mod report;
mod round;
mod strike;
mod summary;
mod then;
mod timeline;
mod verdict;
mod words;

pub use cell_trait::{Cell, CellError, Mishap, MishapKind, Reprotection, ServiceAddresses};
pub use drill_result::DrillResult;
pub use driver::hold;
pub use error::DrillError;
pub use evidence::{Achieved, Evidence, Lost};
pub use fault::{Break, Fault};
pub use injury::{Cut, Injury, Party};
pub use must::{GAP_LIMIT_P50_MS, Must};
pub use options::{DrillOptions, IN_FLIGHT_WANTED};
pub use place::Place;
pub use plan::{DrillPlan, Pace};
pub use progress::Progress;
pub use quantiles::Quantiles;
pub use report::Report;
pub use strike::{Direction, FaultKind, Moment, Strike};
pub use summary::{DrillSummary, Summary};
pub use then::Then;
pub use timeline::{EventKind, Noticed, Step, Timeline, TimelineEvent};
pub use verdict::{Finding, GAP_GOAL_P50_MS, GAP_GOAL_P99_MS, Promise, Verdict};
pub use words::tell;
