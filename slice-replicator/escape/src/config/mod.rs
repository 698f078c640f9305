//! Configuration files (TOML): the replication file of a cell and the image file of `escape boot`.
//!
//! Unknown keys are errors, every value has a range, every problem has a line. The commented samples
//! (`docs/replication.toml`, `images/freestanding.toml`) state every default; tests compare them with the code.

mod control;
mod edge_section;
mod image_file;
mod line_index;
mod mac_address;
mod node_entry;
mod place_rules;
mod problem;
mod process_configs;
mod replication_file;
mod rules;
mod sections;

use std::path::Path;

pub use control::Control;
pub use edge_section::Edge;
pub use image_file::ImageFile;
pub use mac_address::MacAddress;
pub use node_entry::NodeEntry;
pub use problem::{ConfigErrors, ConfigProblem, FileKind};
pub use replication_file::ReplicationFile;
pub use sections::{Cell, FREESTANDING, Quotas, Service, Timings};

/// Reads a file of either kind: one with an `image` key at its top is an image file.
pub fn check(file: &Path) -> (FileKind, Result<(), ConfigErrors>) {
    let text = match problem::read(file) {
        Ok(text) => text,
        Err(errors) => return (FileKind::Replication, Err(errors)),
    };
    let is_image = line_index::LineIndex::new(&text).line_of(&["image".into()]).is_some();
    if is_image {
        (FileKind::Image, ImageFile::parse(file, &text).map(drop))
    } else {
        (FileKind::Replication, ReplicationFile::parse(file, &text).map(drop))
    }
}
