//! What is in an initial file system.

use crate::build::AGENT;
use crate::error::ImageError;
use cpio::NewcReader;
use serde::Serialize;

/// Most entries that are looked at: an archive that has more is not one of a guest.
const ENTRIES_MAX: usize = 100_000;
/// Permission to run.
const EXECUTABLE: u32 = 0o100;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct InitramfsFacts {
    /// Files and directories.
    pub entries: usize,
    /// `/init` is there and can be run.
    pub has_init: bool,
    /// `/bin/busybox` is there and can be run.
    pub has_busybox: bool,
    /// The agent is there and can be run.
    pub has_agent: bool,
    /// Names of kernel modules.
    pub modules: Vec<String>,
}

/// Looks into an archive that is not packed.
///
/// # Errors
/// [`ImageError::Archive`] if it is none, or damaged.
pub fn look_into(archive: &[u8]) -> Result<InitramfsFacts, ImageError> {
    let mut facts = InitramfsFacts::default();
    let mut rest = archive;
    loop {
        let reader = NewcReader::new(rest).map_err(ImageError::Archive)?;
        let entry = reader.entry();
        if entry.is_trailer() {
            return Ok(facts);
        }
        facts.entries += 1;
        if facts.entries > ENTRIES_MAX {
            let why = format!("more than {ENTRIES_MAX} entries");
            return Err(ImageError::Archive(std::io::Error::new(std::io::ErrorKind::InvalidData, why)));
        }
        let executable = entry.mode() & EXECUTABLE != 0;
        match entry.name() {
            "init" => facts.has_init = executable,
            "bin/busybox" => facts.has_busybox = executable,
            AGENT => facts.has_agent = executable,
            path => {
                let file = path.rsplit('/').next().unwrap_or(path);
                facts.modules.extend(file.strip_suffix(".ko").map(str::to_owned));
            }
        }
        rest = reader.finish().map_err(ImageError::Archive)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_an_error() {
        for archive in [&b""[..], b"070701", b"not an archive at all, whatever its name says, but long enough for a head of 110 bytes, which is needed before anything is looked at"] {
            assert!(matches!(look_into(archive), Err(ImageError::Archive(_))));
        }
    }
}
