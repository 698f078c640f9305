//! The initial file system: a cpio archive ("newc", Documentation/driver-api/early-userspace/buffer-format.rst).

use crate::error::ImageError;
use cpio::newc::{Builder, ModeFileType, trailer};
use std::collections::BTreeMap;

/// Permissions.
const DIRECTORY: u32 = 0o755;

/// Files and directories by path, without a leading `/`.
#[derive(Debug, Default)]
pub(crate) struct Initramfs {
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug)]
enum Entry {
    Directory,
    File { mode: u32, content: Vec<u8> },
}

impl Initramfs {
    /// Adds a directory, and those above it.
    pub(crate) fn directory(&mut self, path: &str) {
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        for above in ends.filter_map(|end| path.get(..end)).filter(|above| !above.is_empty()) {
            self.entries.entry(above.to_owned()).or_insert(Entry::Directory);
        }
    }

    /// Adds a file, and the directories above it.
    pub(crate) fn file(&mut self, path: &str, mode: u32, content: Vec<u8>) {
        if let Some((above, _)) = path.rsplit_once('/') {
            self.directory(above);
        }
        self.entries.insert(path.to_owned(), Entry::File { mode, content });
    }

    /// The archive. Nothing in it depends on when, where or by whom it is made: numbers of files count on, times are zero.
    pub(crate) fn archive(&self) -> Result<Vec<u8>, ImageError> {
        let mut archive = Vec::new();
        for (number, (path, entry)) in (1u32..).zip(&self.entries) {
            let builder = Builder::new(path).ino(number).uid(0).gid(0).mtime(0);
            let (builder, content): (Builder, &[u8]) = match entry {
                Entry::Directory => (builder.mode(DIRECTORY).nlink(2).set_mode_file_type(ModeFileType::Directory), &[]),
                Entry::File { mode, content } => {
                    (builder.mode(*mode).nlink(1).set_mode_file_type(ModeFileType::Regular), content)
                }
            };
            let size = u32::try_from(content.len()).map_err(|_| {
                let why = format!("{path} is larger than 4 GiB");
                ImageError::Archive(std::io::Error::new(std::io::ErrorKind::InvalidInput, why))
            })?;
            let mut writer = builder.write(&mut archive, size);
            std::io::Write::write_all(&mut writer, content).map_err(ImageError::Archive)?;
            writer.finish().map_err(ImageError::Archive)?;
        }
        trailer(&mut archive).map_err(ImageError::Archive)?;
        Ok(archive)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::inspect::look_into;

    #[test]
    fn the_order_of_adding_does_not_matter_and_all_is_found_again() {
        let mut one = Initramfs::default();
        one.file("init", 0o755, b"#!/bin/sh\n".to_vec());
        one.file("lib/modules/virtio.ko", 0o644, vec![7; 1001]);
        one.directory("proc");
        let mut other = Initramfs::default();
        other.directory("proc");
        other.file("lib/modules/virtio.ko", 0o644, vec![7; 1001]);
        other.file("init", 0o755, b"#!/bin/sh\n".to_vec());
        let archive = one.archive().unwrap();
        assert_eq!(archive, other.archive().unwrap());
        let facts = look_into(&archive).unwrap();
        assert_eq!(facts.entries, 5);
        assert!(facts.has_init);
        assert_eq!(facts.modules, ["virtio"]);
    }
}
