//! The agent of a Linux guest. It serves the host, and nobody else, over virtio-vsock.
//!
//! Today it gives people a shell and programs a report. Slices of Linux processes are not served yet (docs/linux.md).

mod error;
mod report;
mod shell;
mod vsock;

use crate::error::AgentError;
use crate::vsock::{Stream, VsockListener};
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
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("escape-agent: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<(), AgentError> {
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
