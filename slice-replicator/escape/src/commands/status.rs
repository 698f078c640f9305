//! `escape status`: how a cell is.

use super::{CommandError, parts};
use crate::cli::StatusArgs;
use crate::config::OperatorConfig;
use crate::exit::Exit;
use crate::operator::ask;
use crate::status::StatusReport;
use escape_proto::{OperatorReply, OperatorRequest};
use std::time::Duration;

/// Asks the orchestrator and tells. Something lost, or on one copy for too long: exit code 1.
pub fn run(args: &StatusArgs) -> Result<Exit, CommandError> {
    let config: OperatorConfig = parts::read(&args.config)?;
    let OperatorReply::Status(cell) = ask(&config, OperatorRequest::Status).map_err(Box::new)? else {
        return Err(CommandError::OtherAnswer);
    };
    let report = StatusReport::new(cell, Duration::from_secs(args.unprotected_limit));
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    Ok(if report.problems.is_empty() { Exit::Done } else { Exit::Broken })
}
