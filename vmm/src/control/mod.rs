//! Messages between host and guest through the control pages.

pub mod host_side;
pub mod metrics;

pub use host_side::{Control, OVERFLOW_MESSAGES_MAX};
pub use metrics::ControlMetrics;
