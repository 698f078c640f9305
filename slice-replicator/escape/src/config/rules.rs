//! Collects what breaks a rule, with its line.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::Path;

use super::line_index::{LineIndex, PathStep, path_text};
use super::problem::{ConfigErrors, ConfigProblem};

/// The rules of one file.
#[derive(Debug)]
pub struct Rules<'a> {
    file: &'a Path,
    lines: LineIndex<'a>,
    problems: Vec<ConfigProblem>,
}

impl<'a> Rules<'a> {
    /// For a file with this text.
    pub fn new(file: &'a Path, text: &'a str) -> Self {
        Self { file, lines: LineIndex::new(text), problems: Vec::new() }
    }

    /// Refuses the value at `path` unless `holds`.
    pub fn require(&mut self, holds: bool, path: &[PathStep], message: impl FnOnce() -> String) {
        if !holds {
            let line = self.lines.line_of_nearest(path);
            self.problems.push(ConfigProblem { line, key: path_text(path), message: message() });
        }
    }

    /// Refuses a value outside of `range`.
    pub fn within<T: PartialOrd + Display>(&mut self, value: T, range: RangeInclusive<T>, section: &str, key: &str) {
        let path: Vec<PathStep> = [section, key].iter().filter(|step| !step.is_empty()).map(|&s| s.into()).collect();
        self.require(range.contains(&value), &path, || {
            format!("{value} is out of range, must be {} to {}", range.start(), range.end())
        });
    }

    /// The end: everything that was refused.
    pub fn end(self) -> Result<(), ConfigErrors> {
        if self.problems.is_empty() {
            return Ok(());
        }
        Err(ConfigErrors { file: self.file.to_owned(), problems: self.problems })
    }
}
