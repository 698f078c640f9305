//! What each command does. Every function returns how the command ended; what it says goes to standard output, errors
//! to standard error.

mod bench;
mod boot;
mod cell_init;
mod command_error;
mod config_check;
mod connect;
mod doctor;
mod drill;
mod drill_files;
mod image;
mod move_session;
mod parts;
mod status;

pub use command_error::CommandError;

use crate::cli::{Cell, Cli, Command, Config, Image};
use crate::exit::Exit;

/// Does what the command line asks.
pub fn run(cli: Cli) -> Result<Exit, CommandError> {
    match cli.command {
        Command::Boot { image, times } => boot::run(&image, times),
        Command::Connect { socket, port } => connect::run(&socket, port),
        Command::Node(args) => parts::node(&args),
        Command::Edge(args) => parts::edge(&args),
        Command::Orchestrator(args) => parts::orchestrator(&args),
        Command::Status(args) => status::run(&args),
        Command::Move(args) => move_session::run(&args),
        Command::Drill(args) => drill::run(&args),
        Command::Bench { what } => bench::run(&what),
        Command::Doctor { json } => doctor::run(json),
        Command::Cell { what: Cell::Init(args) } => cell_init::run(&args),
        Command::Image { what: Image::Build { file } } => image::build(&file),
        Command::Image { what: Image::Inspect { file, json } } => image::inspect(&file, json),
        Command::Config { what: Config::Check { file, json } } => config_check::run(&file, json),
    }
}
