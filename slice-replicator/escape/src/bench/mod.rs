//! Measurements: what slices add to a request, what they cost in bytes on the link, in memory and in throughput, how
//! long a failover takes, what a client notices of a move, how long a guest takes to its first answer, and what moving a kernel's TCP connection costs.

mod boot;
mod boot_bed;
mod boot_report;
mod cells;
mod derived;
mod error;
mod failover;
mod failover_report;
mod first_answer;
mod floor;
mod latency;
mod latency_report;
mod memory;
mod memory_report;
mod moving;
mod moving_report;
mod percentiles;
mod process_usage;
mod requests;
mod tcp_capsule;
mod tcp_capsule_report;
mod throughput;
mod throughput_report;
mod wire;
mod wire_report;

pub use boot::measure_boot;
pub use boot_report::BootReport;
pub use error::BenchError;
pub use failover::{FailoverPlan, measure_failover};
pub use failover_report::{FailoverCase, FailoverReport};
pub use latency::{LatencyPlan, measure_latency};
pub use latency_report::{LatencyCase, LatencyReport, WireSizes};
pub use memory::{MemoryPlan, measure_memory};
pub use memory_report::{MemoryReport, SessionBytes};
pub use moving::{MovingPlan, measure_moving};
pub use moving_report::MovingReport;
pub use percentiles::Percentiles;
pub use tcp_capsule::{TcpCapsulePlan, measure_tcp_capsule};
pub use tcp_capsule_report::TcpCapsuleReport;
pub use throughput::{ThroughputPlan, measure_throughput};
pub use throughput_report::{CpuPerRequest, Load, Pair, Side, ThroughputReport};
pub use wire::{WirePlan, measure_wire};
pub use wire_report::{WireCase, WireFigures, WireReport};
