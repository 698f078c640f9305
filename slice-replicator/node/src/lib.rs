//! The node: the only place where engine, VMM and sockets meet.
//!
//! One thread carries the data, and its modules are named after the steps: `run` (the turn), `outbound` (TX kick →
//! classify → hold → capture → send), `links` and `execute` (apply → acknowledge → release), `inbound` (gate,
//! mirror, replay), `activation` (plug). The engine decides; nothing here knows an epoch's meaning.

mod activation;
mod affinity;
mod bulk_budget;
mod clock;
mod commits;
mod config;
mod connections;
mod error;
mod execute;
mod exported;
mod flow_report;
mod groups;
mod guest;
mod guest_image;
mod guest_waker;
mod guest_watch;
mod heartbeat;
mod inbound;
mod leases;
mod links;
mod metrics;
mod micro_histogram;
mod moves;
mod neighbours;
mod next_life;
mod node;
mod operator;
mod outbound;
mod peers;
mod priority;
mod quota_config;
mod run;
mod rx_backlog;
mod sabotage;
mod slice_table;
pub mod solo;
mod stages;
mod stale_slices;
mod tokens;
mod traffic;
mod upstream;
mod wire_body;
mod wire_ratios;

pub use clock::now_us;
pub use config::{Interface, NodeConfig, RAM_MIB, ServiceConfig, TimingConfig};
pub use error::NodeError;
pub use metrics::NodeMetrics;
pub use node::Node;
pub use priority::real_time;
pub use quota_config::QuotaConfig;
pub use run::Ended;
