//! Measurements: what slices add to a request, and how long a guest takes to its first answer.

mod error;
mod floor;
mod latency;
mod latency_report;
mod percentiles;
mod requests;

pub use error::BenchError;
pub use latency::{LatencyPlan, measure_latency};
pub use latency_report::{LatencyCase, LatencyReport, WireSizes};
pub use percentiles::Percentiles;
