//! `escape doctor`: what this machine lacks.

use super::CommandError;
use crate::doctor::Diagnosis;
use crate::exit::Exit;

/// Checks and reports.
pub fn run(json: bool) -> Result<Exit, CommandError> {
    let diagnosis = Diagnosis::make();
    if json {
        println!("{}", serde_json::to_string_pretty(&diagnosis)?);
    } else {
        print!("{}", diagnosis.table());
    }
    Ok(if diagnosis.is_fit() { Exit::Done } else { Exit::Environment })
}
