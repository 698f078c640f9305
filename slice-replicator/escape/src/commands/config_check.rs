//! `escape config check FILE`: what is wrong with a file, and where.

use std::path::Path;

use serde::Serialize;

use super::CommandError;
use crate::config::{self, ConfigErrors, ConfigProblem, FileKind};
use crate::exit::Exit;

#[derive(Serialize)]
struct CheckReport<'a> {
    file: &'a Path,
    kind: FileKind,
    valid: bool,
    problems: &'a [ConfigProblem],
}

/// Reads the file and reports.
pub fn run(file: &Path, json: bool) -> Result<Exit, CommandError> {
    let (kind, checked) = config::check(file);
    let no_problems = Vec::new();
    let problems = checked.as_ref().err().map_or(&no_problems, |errors: &ConfigErrors| &errors.problems);
    if json {
        let report = CheckReport { file, kind, valid: problems.is_empty(), problems };
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else if problems.is_empty() {
        println!("{}: a valid {kind}", file.display());
    } else if let Err(errors) = &checked {
        println!("{errors}");
    }
    Ok(if problems.is_empty() { Exit::Done } else { Exit::Usage })
}
