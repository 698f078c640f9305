//! The `escape` command: see `escape --help`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use escape::cli::Cli;

fn main() -> ExitCode {
    match escape::commands::run(Cli::parse()) {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("escape: {error}");
            error.exit().into()
        }
    }
}
