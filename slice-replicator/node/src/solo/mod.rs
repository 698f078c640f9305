//! One guest by itself: no cell, no standby. Its output leaves at once and its sessions die with it.

mod config;
mod console_tail;
mod error;
mod node;
mod operator_terminal;
mod stop_signal;
mod times;

pub use config::{KeysTo, SoloConfig};
pub use error::SoloError;
pub use node::SoloNode;
pub use times::{SoloStep, SoloTimes};
