//! Debian's packages, by Debian's programs: `apt-get` checks what it downloads against the archive's signature.

use crate::error::ImageError;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

/// Longest part of a program's words that an error repeats, characters.
const SAID_MAX: usize = 500;

/// Links that lead from one to the next.
const LINKS_MAX: usize = 8;

/// A package, unpacked.
#[derive(Debug)]
pub(crate) struct Package {
    /// Its name.
    pub(crate) name: String,
    /// Where its files are.
    pub(crate) root: PathBuf,
}

impl Package {
    /// Downloads and unpacks a package below `work`. One that is empty and only names another one, as `linux-image-cloud-amd64` does,
    /// stands for that one.
    pub(crate) fn fetch(name: &str, work: &Path) -> Result<Self, ImageError> {
        let name = real_name(name)?;
        let (download, root) = (work.join(format!("{name}.download")), work.join(&name));
        std::fs::create_dir_all(&download).map_err(ImageError::file(&download))?;
        run("apt-get", "apt", |c| c.args(["download", "-q", &name]).current_dir(&download))?;
        let file = only_file(&download, &name)?;
        run("dpkg-deb", "dpkg", |c| c.arg("-x").arg(&file).arg(&root))?;
        Ok(Self { name, root })
    }

    /// The files below a directory of the package, in order of their paths.
    pub(crate) fn files_below(&self, directory: &str) -> Result<Vec<PathBuf>, ImageError> {
        let mut found = Vec::new();
        let mut open = vec![self.root.join(directory)];
        while let Some(directory) = open.pop() {
            let Ok(entries) = std::fs::read_dir(&directory) else { continue };
            for entry in entries {
                let path = entry.map_err(ImageError::file(&directory))?.path();
                if path.is_symlink() {
                    continue;
                }
                if path.is_dir() { open.push(path) } else { found.push(path) }
            }
        }
        found.sort();
        Ok(found)
    }

    /// The files below a directory of the package with their places in it, links too: those that lead to a file of the same package stand
    /// for it, others are left out.
    pub(crate) fn contents_below(&self, directory: &str) -> Result<Vec<(String, PathBuf)>, ImageError> {
        let mut found = Vec::new();
        let mut open = vec![self.root.join(directory)];
        while let Some(directory) = open.pop() {
            let Ok(entries) = std::fs::read_dir(&directory) else { continue };
            for entry in entries {
                let path = entry.map_err(ImageError::file(&directory))?.path();
                let Some(file) = self.resolve(path.clone()) else { continue };
                if !file.is_dir() {
                    let place = path.strip_prefix(&self.root).unwrap_or(&path);
                    found.push((place.to_string_lossy().into_owned(), file));
                } else if !path.is_symlink() {
                    open.push(path);
                }
            }
        }
        found.sort();
        Ok(found)
    }

    /// What a path of the package leads to, if that is in it; links from the root begin at the package's.
    fn resolve(&self, mut path: PathBuf) -> Option<PathBuf> {
        for _ in 0..LINKS_MAX {
            if !path.is_symlink() {
                return path.exists().then_some(path);
            }
            let target = std::fs::read_link(&path).ok()?;
            path = match target.strip_prefix("/") {
                Ok(from_root) => self.root.join(from_root),
                Err(_) => path.parent()?.join(target),
            };
            // Not out of the package, whatever its links say.
            if path.components().any(|part| part == Component::ParentDir) {
                path = path.canonicalize().ok()?;
            }
            if !path.starts_with(&self.root) {
                return None;
            }
        }
        None
    }

    pub(crate) fn missing(&self, what: impl Into<String>) -> ImageError {
        ImageError::Missing { package: self.name.clone(), what: what.into() }
    }
}

/// The package itself, or the versioned one that it depends on and that continues its name (`linux-image-cloud-amd64` →
/// `linux-image-6.1.0-56-cloud-amd64`).
fn real_name(name: &str) -> Result<String, ImageError> {
    let Some(flavour) = name.strip_prefix("linux-image-") else { return Ok(name.to_owned()) };
    if flavour.starts_with(|c: char| c.is_ascii_digit()) {
        return Ok(name.to_owned());
    }
    let said = run("apt-cache", "apt", |c| c.args(["depends", name]))?;
    let wanted = |line: &str| {
        let package = line.trim().strip_prefix("Depends: ")?;
        (package.starts_with("linux-image-") && package.ends_with(flavour)).then(|| package.to_owned())
    };
    said.lines().find_map(wanted).ok_or_else(|| ImageError::NoPackage { package: name.to_owned() })
}

fn only_file(directory: &Path, name: &str) -> Result<PathBuf, ImageError> {
    let mut entries = std::fs::read_dir(directory).map_err(ImageError::file(directory))?.flatten();
    entries
        .find(|entry| entry.path().extension().is_some_and(|e| e == "deb"))
        .map(|entry| entry.path())
        .ok_or_else(|| ImageError::NoPackage { package: name.to_owned() })
}

/// Runs a program, which comes with `package`; what it said.
fn run(
    program: &'static str,
    package: &'static str,
    prepare: impl FnOnce(&mut Command) -> &mut Command,
) -> Result<String, ImageError> {
    let mut command = Command::new(program);
    let output = prepare(&mut command).output().map_err(|source| ImageError::Program { program, package, source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said: String = String::from_utf8_lossy(&output.stderr).trim().chars().take(SAID_MAX).collect();
    Err(ImageError::Failed { command: format!("{command:?}"), status: output.status, said })
}
