//! Configuration files (TOML): the replication file of a cell, the image file of `escape boot`, and drill files.
//!
//! Unknown keys are errors, every value has a range, every problem has a line. The commented samples
//! (`docs/replication.toml`, `docs/drill.toml`, `images/freestanding.toml`) state every default; tests compare them with the code.

mod control;
mod drill_file;
mod edge_section;
mod image_file;
mod line_index;
mod mac_address;
mod node_entry;
mod operator_config;
mod place_rules;
mod problem;
mod process_configs;
mod replication_file;
mod rules;
mod sections;
mod shipped_drills;

use std::path::Path;

pub use control::Control;
pub use drill_file::{DrillCell, DrillFile, DrillLoad, DrillPace};
pub use edge_section::Edge;
pub use image_file::ImageFile;
pub use mac_address::MacAddress;
pub use node_entry::NodeEntry;
pub use operator_config::OperatorConfig;
pub use problem::{ConfigErrors, ConfigProblem, FileKind};
pub use replication_file::ReplicationFile;
pub use sections::{Cell, FREESTANDING, Quotas, Service, Timings};
pub use shipped_drills::{shipped_drill, shipped_drills};

/// Reads a file of any kind: one with an `image` key at its top is an image file, one with `faults` a drill file.
pub fn check(file: &Path) -> (FileKind, Result<(), ConfigErrors>) {
    let text = match problem::read(file) {
        Ok(text) => text,
        Err(errors) => return (FileKind::Replication, Err(errors)),
    };
    let has = |key: &str| line_index::LineIndex::new(&text).line_of(&[key.into()]).is_some();
    if has("image") {
        (FileKind::Image, ImageFile::parse(file, &text).map(drop))
    } else if has("faults") {
        (FileKind::Drill, DrillFile::parse(file, &text).map(drop))
    } else {
        (FileKind::Replication, ReplicationFile::parse(file, &text).map(drop))
    }
}
