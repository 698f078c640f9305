//! `escape move`: a live session goes on on the node that stands by for it.

use super::{CommandError, parts};
use crate::cli::MoveArgs;
use crate::config::OperatorConfig;
use crate::exit::Exit;
use crate::operator::ask;
use escape_proto::{MoveAnswer, NodeId, OperatorReply, OperatorRequest};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How long a session that cannot move at this moment is tried again.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(50);

/// Moves it, and says where it is. It stays where it is: exit code 1.
pub fn run(args: &MoveArgs) -> Result<Exit, CommandError> {
    let config: OperatorConfig = parts::read(&args.config)?;
    let request = OperatorRequest::Move { what: args.session.0, to: args.to.map(NodeId) };
    let begun = Instant::now();
    let answer = loop {
        let OperatorReply::Move(answer) = ask(&config, request).map_err(Box::new)? else {
            return Err(CommandError::OtherAnswer);
        };
        if !matches!(answer, MoveAnswer::Refused { again: true, .. }) || begun.elapsed() >= PATIENCE {
            break answer;
        }
        std::thread::sleep(PAUSE);
    };
    match args.json {
        true => println!("{}", json_of(&answer)),
        false => println!("{}", text_of(&answer)),
    }
    Ok(if matches!(answer, MoveAnswer::Moved { .. }) { Exit::Done } else { Exit::Broken })
}

fn text_of(answer: &MoveAnswer) -> String {
    match answer {
        MoveAnswer::Moved { slice, from, to, group, frozen_us, recorded_us } => format!(
            "slice {slice} moved from node {} to node {}, as group {group}; at rest for {frozen_us} us, \
             {recorded_us} us of them for the store",
            from.node, to.node
        ),
        MoveAnswer::Refused { cause, .. } => format!("it stays where it is: {cause}"),
        MoveAnswer::NotHere => "no node has this session (it may have ended)".to_owned(),
    }
}

fn json_of(answer: &MoveAnswer) -> Value {
    match answer {
        MoveAnswer::Moved { slice, from, to, group, frozen_us, recorded_us } => json!({
            "moved": true, "slice": slice.to_string(), "from": from.node.0, "to": to.node.0, "group": group.0,
            "frozen_us": frozen_us, "recorded_us": recorded_us,
        }),
        MoveAnswer::Refused { cause, again } => json!({ "moved": false, "cause": cause, "again": again }),
        MoveAnswer::NotHere => json!({ "moved": false, "cause": "no node has this session", "again": false }),
    }
}
