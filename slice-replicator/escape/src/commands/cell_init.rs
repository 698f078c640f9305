//! `escape cell init`: from the replication file to what each process needs.

use super::CommandError;
use crate::cell_directory;
use crate::cli::CellInitArgs;
use crate::config::ReplicationFile;
use crate::exit::Exit;

/// Makes the directory, or adds to it, and tells what it did.
pub fn run(args: &CellInitArgs) -> Result<Exit, CommandError> {
    let file = ReplicationFile::read(&args.file)?;
    let report = cell_directory::init(&file, &args.out)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    Ok(Exit::Done)
}
