//! Virtual processors: threads, exits, faults.

pub mod bus;
pub mod error;
pub mod fault;
pub mod kick_signal;
pub mod metrics;
pub mod pristine;
mod processor_time;
pub mod requests;
pub mod runner;
pub mod seat;
pub mod thread;

pub use bus::Bus;
pub use error::VcpuError;
pub use fault::Fault;
pub use metrics::ExitMetrics;
pub use pristine::PristineVcpu;
pub use seat::VcpuSeat;
pub use thread::VcpuThread;
