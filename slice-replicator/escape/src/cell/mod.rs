//! A whole cell on this machine: namespaces, links, and one process each for the orchestrator, the edge and the nodes.

mod configs;
mod cuts;
mod drilled;
mod error;
mod local_cell;
mod network;
mod node_status;
mod orchestrator_status;
#[allow(unsafe_code)] // pre_exec, memfd, kill
mod process;
mod process_event;

pub use configs::{CellPlan, GROUPS_PER_NODE};
pub use error::CellSetupError;
pub use local_cell::LocalCell;
pub use network::{CellNetwork, SERVICE_IP, SERVICE_MAC, node_ip};
pub use node_status::NodeStatus;
pub use process::{CellProcess, Configuration, Launch};
