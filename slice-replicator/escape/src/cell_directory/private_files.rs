//! Files and directories that only their owner reads.

use super::error::CellDirectoryError;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Longest file that is read, bytes: what this program writes has a few KiB.
const FILE_MAX: u64 = 1 << 20;

/// The text of a file; `None` if there is no such file.
pub(super) fn read(path: &Path) -> Result<Option<String>, CellDirectoryError> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Ok(file) if file.len() > FILE_MAX => {
            return Err(CellDirectoryError::Unreadable {
                file: path.to_owned(),
                cause: format!("{} bytes are too many for a file of a cell", file.len()),
            });
        }
        _ => {}
    }
    std::fs::read_to_string(path).map(Some).map_err(failed(path))
}

/// Whether there is nothing: no directory, or an empty one.
pub(super) fn is_empty(directory: &Path) -> Result<bool, CellDirectoryError> {
    match std::fs::read_dir(directory) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) => Err(failed(directory)(error)),
    }
}

/// Names in a directory.
pub(super) fn names(directory: &Path) -> Result<Vec<String>, CellDirectoryError> {
    let entries = std::fs::read_dir(directory).map_err(failed(directory))?;
    Ok(entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

/// Makes a directory of mode 0700; one that is there stays as it is.
pub(super) fn make_directory(path: &Path) -> Result<(), CellDirectoryError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed(path))
}

/// Writes a file of mode 0600 in one step: whoever reads it sees the old text or the new one.
pub(super) fn write(path: &Path, text: &str) -> Result<(), CellDirectoryError> {
    let mut unfinished = PathBuf::from(path);
    unfinished.as_mut_os_string().push(".unfinished");
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(&unfinished)(error)),
        _ => {}
    }
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(&unfinished).map_err(failed(&unfinished))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed(&unfinished))?;
    std::fs::rename(&unfinished, path).map_err(failed(path))?;
    let directory = path.parent().unwrap_or(path);
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed(directory))
}

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> CellDirectoryError {
    let path = path.to_owned();
    move |source| CellDirectoryError::Io { path, source }
}
