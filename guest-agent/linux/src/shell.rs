//! A shell whose input and output are the connection: no terminal, so programs neither ask for one nor colour their words.

use crate::error::AgentError;
use crate::vsock::Stream;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

const SHELL: &str = "/bin/sh";

/// Runs a shell until it ends or the host goes away.
///
/// # Errors
/// It did not start.
pub fn serve(stream: &Stream) -> Result<(), AgentError> {
    let error = |source| AgentError::Shell { program: SHELL, source };
    let copy = || stream.try_clone().map(|fd: OwnedFd| Stdio::from(fd)).map_err(error);
    let mut shell = Command::new(SHELL).stdin(copy()?).stdout(copy()?).stderr(copy()?).spawn().map_err(error)?;
    shell.wait().map_err(error)?;
    Ok(())
}
