//! Whole cells, and what the world outside does to them: foreign clients, hostile bytes, wrong configurations, an
//! interrupted drill.
//!
//! A cell's processes are this very program, started again with a command of `escape`: then it is `escape`.
#![allow(clippy::unwrap_used)]

mod ab;
mod boot;
mod bulk;
mod capture;
mod configuration;
mod curl;
mod events;
mod foreign_caller;
mod foreign_program;
mod hostile_session;
mod hosts;
mod hosts_cell;
mod hosts_network;
mod interrupted_drill;
mod moving;
mod nc;
mod patience;
mod poison;
mod python_client;
mod replication_port;
mod session;
mod sharing;
mod tidy;
mod traces;
mod victim;
mod wrk;

use clap::Parser;
use escape::cli::Cli;
use escape::exit::Exit;
use libtest_mimic::{Arguments, Trial};
use std::process::ExitCode;

/// Commands of `escape` that the tests use; no name of a test is one of them.
const COMMANDS: &[&str] = &["node", "edge", "orchestrator", "drill", "cell", "config", "status", "move"];

fn main() -> ExitCode {
    let command = std::env::args().nth(1).unwrap_or_default();
    if COMMANDS.contains(&command.as_str()) {
        return be_escape();
    }
    let mut arguments = Arguments::from_args();
    // A cell wants the machine for itself.
    arguments.test_threads = Some(1);
    let tests = [
        ("bulk::copies_keep_to_their_share", bulk::keeps_to_its_share as fn()),
        ("configuration::unknown_keys_and_impossible_values_are_told", configuration::wrong_files),
        ("curl::keeps_its_download", curl::keeps_its_download),
        ("curl::keeps_its_upload", curl::keeps_its_upload),
        ("wrk::has_no_socket_errors", wrk::has_no_socket_errors),
        ("ab::has_no_failed_request", ab::has_no_failed_request),
        ("python_client::counts_over_two_kills", python_client::counts_over_two_kills),
        ("nc::streams_over_a_kill", nc::streams_over_a_kill),
        ("events::go_on_after_a_kill", events::go_on_after_a_kill),
        ("capture::nothing_of_the_old_owner", capture::nothing_of_the_old_owner),
        ("poison::one_session_is_lost", poison::one_session_is_lost),
        ("hostile_session::others_do_not_wait", hostile_session::others_do_not_wait),
        ("sharing::connections_of_a_client_fail_over_together", sharing::fail_over_together),
        ("boot::a_guest_that_does_not_boot_is_told_and_started_again", boot::is_told_and_started_again),
        ("hosts::a_cell_on_three_hosts_from_its_file", hosts::from_its_file),
        ("moving::sessions_move_back_and_forth", moving::sessions_move_back_and_forth),
        ("replication_port::hostile_bytes_harm_no_session", replication_port::hostile_bytes),
        ("interrupted_drill::leaves_nothing", interrupted_drill::leaves_nothing),
    ];
    let trials = tests.into_iter().map(|(name, test)| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

/// What `escape`'s own main function does.
fn be_escape() -> ExitCode {
    match escape::commands::run(Cli::parse()) {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("escape: {error}");
            Exit::into(error.exit())
        }
    }
}

/// This program as a command of `escape`.
fn escape(arguments: &[&str]) -> std::process::Command {
    let mut command = std::process::Command::new("/proc/self/exe");
    command.args(arguments);
    command
}

/// Whether cells can be had here; says so loudly if not.
fn cells_run_here(test: &str) -> bool {
    // SAFETY: takes nothing and cannot fail.
    let is_root = unsafe { libc::geteuid() } == 0;
    let runs = is_root && std::path::Path::new("/dev/kvm").exists();
    if !runs {
        eprintln!("\n*** SKIPPED: no /dev/kvm or not root; {test} was not tested ***\n");
    }
    runs
}
