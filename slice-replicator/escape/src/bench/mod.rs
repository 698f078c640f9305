//! Measurements: what slices add to a request, and how long a guest takes to its first answer.

mod boot;
mod boot_bed;
mod boot_report;
mod error;
mod first_answer;
mod floor;
mod latency;
mod latency_report;
mod percentiles;
mod requests;

pub use boot::measure_boot;
pub use boot_report::BootReport;
pub use error::BenchError;
pub use latency::{LatencyPlan, measure_latency};
pub use latency_report::{LatencyCase, LatencyReport, WireSizes};
pub use percentiles::Percentiles;
