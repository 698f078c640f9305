//! What the processes of a cell count, under the names of one [`TABLE`], told over HTTP in Prometheus' text format.
//!
//! A process makes a [`Reading`] now and then and gives it to its [`MetricsServer`], whose thread answers whoever asks:
//! a question never takes time of the loop that counts. `docs/metrics.md` is [`page()`], printed.
#![forbid(unsafe_code)]

mod connection;
mod definition;
mod error;
mod own_process;
mod page;
mod reading;
mod server;
mod table;

pub use definition::{Definition, Kind, Part};
pub use error::MetricsError;
pub use page::page;
pub use reading::Reading;
pub use server::MetricsServer;
pub use table::{Metric, TABLE};
