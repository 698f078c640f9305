//! `escape boot IMAGE.toml`: one guest by itself.

use std::path::Path;

use super::CommandError;
use crate::config::ImageFile;
use crate::exit::Exit;

/// Reads the image file and boots it.
pub fn run(image: &Path) -> Result<Exit, CommandError> {
    let _image = ImageFile::read(image)?;
    Err(CommandError::NotAvailable("escape boot"))
}
