//! The agent of a Linux guest, and its keeper, which starts it again when it ends. It gives the host's people a shell and its programs a report, over virtio-vsock; in a guest of a cell it
//! serves the slices of the guest's processes ([`slices`]).

use escape_abi::layout::ARENA_BASE;
use escape_agent::arena::Arena;
use escape_agent::error::AgentError;
use escape_agent::keeping::{Kept, SERVE, supervise};
use escape_agent::vsock::{Stream, VsockListener};
use escape_agent::{report, shell, slices};
use escape_process::Channel;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A shell.
const SHELL_PORT: u32 = 1023;
/// A report: one line of JSON, and the end.
const REPORT_PORT: u32 = 1024;
/// Connections served at once; more are closed at once.
const CONNECTIONS_MAX: usize = 32;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let done = match words.as_slice() {
        [] => supervise(),
        [word] if word == SERVE => serve(),
        words => look_into_arena(words),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("escape-agent: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `peek OFFSET`, `poke OFFSET NUMBER`: a word of the arena, for people and tests.
fn look_into_arena(words: &[String]) -> Result<(), AgentError> {
    let arena = Arena::map()?;
    let usage = || AgentError::Usage { bytes: arena.bytes() };
    let number = |word: &String| word.parse::<u64>().map_err(|_| usage());
    let offset = |word: &String| number(word).and_then(|n| usize::try_from(n).map_err(|_| usage()));
    match words {
        [what, at] if what == "peek" => println!("{}", arena.read(offset(at)?).ok_or_else(usage)?),
        [what, at, value] if what == "poke" => {
            if !arena.write(offset(at)?, number(value)?) {
                return Err(usage());
            }
        }
        _ => return Err(usage()),
    }
    Ok(())
}

/// The agent: its input is its keeper.
fn serve() -> Result<(), AgentError> {
    if slices::is_of_cell() {
        let keeper = std::io::stdin().as_fd().try_clone_to_owned().map_err(AgentError::Start)?;
        let kept = Kept::by(Channel::of(keeper))?;
        std::thread::spawn(|| {
            if let Err(error) = slices::run(kept) {
                eprintln!("escape-agent: no slices: {error}");
            }
        });
        return serve_people();
    }
    match Arena::map() {
        Ok(arena) => {
            println!("escape-agent: an arena of {} bytes at {ARENA_BASE:#x}, by {}", arena.bytes(), arena.device())
        }
        Err(error) => eprintln!("escape-agent: {error}"),
    }
    serve_people()
}

/// Shells and reports, for ever.
fn serve_people() -> Result<(), AgentError> {
    let open = Arc::new(AtomicUsize::new(0));
    let shells = VsockListener::bind(SHELL_PORT)?;
    let reports = VsockListener::bind(REPORT_PORT)?;
    println!("escape-agent: a shell on port {SHELL_PORT}, a report on port {REPORT_PORT}");
    let shells_open = Arc::clone(&open);
    std::thread::spawn(move || each(&shells, &shells_open, |stream| shell::serve(&stream)));
    each(&reports, &open, |stream| report::tell(&stream))
}

/// Serves every connection of the host's on a thread of its own, for ever.
fn each(
    listener: &VsockListener,
    open: &Arc<AtomicUsize>,
    serve: impl Fn(Stream) -> Result<(), AgentError> + Copy + Send + 'static,
) -> Result<(), AgentError> {
    loop {
        let Some(stream) = listener.accept()? else { continue };
        if open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
            open.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let open = Arc::clone(open);
        std::thread::spawn(move || {
            if let Err(error) = serve(stream) {
                eprintln!("escape-agent: {error}");
            }
            open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}
