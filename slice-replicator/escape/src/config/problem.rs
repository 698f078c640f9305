//! What is wrong with a configuration file, and where.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest file that is read, bytes: a mistyped path to an image must not be read whole.
const FILE_MAX: u64 = 1 << 20;

/// The kinds of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// The replication file of a cell.
    Replication,
    /// The image file of `escape boot`.
    Image,
    /// The image file of a Linux guest.
    Linux,
    /// The file of a drill.
    Drill,
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Replication => "replication file",
            Self::Image => "image file",
            Self::Linux => "image file of a Linux guest",
            Self::Drill => "drill file",
        })
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfigProblem {
    /// Line, counted from 1; none if it concerns the file as a whole.
    pub line: Option<usize>,
    /// The key, as `section.key` or `nodes[2].key`; empty if it concerns the file as a whole.
    pub key: String,
    /// What is wrong and what would be right.
    pub message: String,
}

/// Everything that is wrong with one file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors {
    /// The file.
    pub file: PathBuf,
    /// At least one.
    pub problems: Vec<ConfigProblem>,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.problems.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            write!(f, "{}", self.file.display())?;
            if let Some(line) = problem.line {
                write!(f, ":{line}")?;
            }
            if !problem.key.is_empty() {
                write!(f, ": {}", problem.key)?;
            }
            write!(f, ": {}", problem.message)?;
        }
        Ok(())
    }
}

impl ConfigErrors {
    /// One problem of the file as a whole.
    pub(super) fn whole(file: &Path, message: String) -> Self {
        let problem = ConfigProblem { line: None, key: String::new(), message };
        Self { file: file.to_owned(), problems: vec![problem] }
    }
}

/// Reads a file of bounded length.
pub(super) fn read(file: &Path) -> Result<String, ConfigErrors> {
    let refused = |error: std::io::Error| ConfigErrors::whole(file, error.to_string());
    let length = std::fs::metadata(file).map_err(refused)?.len();
    if length > FILE_MAX {
        let message = format!("{length} bytes: not a configuration file (at most {FILE_MAX})");
        return Err(ConfigErrors::whole(file, message));
    }
    std::fs::read_to_string(file).map_err(refused)
}

/// Reads the types of a file: syntax, unknown keys, types.
pub(super) fn deserialize<T: DeserializeOwned>(file: &Path, text: &str) -> Result<T, ConfigErrors> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let line = error.span().map(|span| text.get(..span.start).unwrap_or(text).matches('\n').count() + 1);
        let problem = ConfigProblem { line, key: String::new(), message: error.message().to_owned() };
        ConfigErrors { file: file.to_owned(), problems: vec![problem] }
    })
}
