//! Configuration files (TOML): the replication file of a cell, the image file of `escape boot`, and drill files.
//!
//! Unknown keys are errors, every value has a range, every problem has a line. The commented samples
//! (`docs/replication.toml`, `docs/drill.toml`, `images/freestanding.toml`, `images/linux/debian.toml`) state every default; tests compare them with the code.

mod control;
mod drill_file;
mod edge_section;
mod image_file;
mod line_index;
mod linux_build;
mod linux_file;
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
pub use linux_build::{LinuxBuild, LinuxImageFile};
pub use linux_file::{Keys, LinuxDisk, LinuxFile};
pub use mac_address::MacAddress;
pub use node_entry::NodeEntry;
pub use operator_config::OperatorConfig;
pub use problem::{ConfigErrors, ConfigProblem, FileKind};
pub use replication_file::ReplicationFile;
pub use sections::{Cell, FREESTANDING, Quotas, Service, SlicePer, Timings};
pub use shipped_drills::{shipped_drill, shipped_drills};

/// Whether a file is one of a Linux guest: it has a `kernel` key at its top. One that cannot be read is not.
pub fn is_linux_file(file: &Path) -> bool {
    problem::read(file).is_ok_and(|text| line_index::LineIndex::new(&text).line_of(&["kernel".into()]).is_some())
}

/// Reads a file of any kind: one with a `kernel` key at its top is the image file of a Linux guest, one with an `image` key that
/// of a freestanding one, one with `faults` a drill file.
pub fn check(file: &Path) -> (FileKind, Result<(), ConfigErrors>) {
    let text = match problem::read(file) {
        Ok(text) => text,
        Err(errors) => return (FileKind::Replication, Err(errors)),
    };
    let has = |key: &str| line_index::LineIndex::new(&text).line_of(&[key.into()]).is_some();
    if has("kernel") {
        (FileKind::Linux, LinuxFile::parse(file, &text).map(drop))
    } else if has("image") {
        (FileKind::Image, ImageFile::parse(file, &text).map(drop))
    } else if has("faults") {
        (FileKind::Drill, DrillFile::parse(file, &text).map(drop))
    } else {
        (FileKind::Replication, ReplicationFile::parse(file, &text).map(drop))
    }
}
