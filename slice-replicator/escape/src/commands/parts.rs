//! `escape node`, `escape edge`, `escape orchestrator`: the parts of a cell, each a process.

use super::{CommandError, boot};
use crate::cli::PartArgs;
use crate::config::{LinuxFile, is_linux_file};
use crate::exit::Exit;
use escape_node::{Ended, Node, NodeConfig, NodeError};
use escape_orchestrator::{EdgeProcessConfig, OrchestratorProcessConfig, OutputPlace};
use serde::de::DeserializeOwned;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

/// Runs a node until it is told to stop. One whose guest cannot be started again starts over as a new process image:
/// nothing of its former life is left in memory.
pub fn node(args: &PartArgs) -> Result<Exit, CommandError> {
    log_to_stderr();
    let mut config: NodeConfig = read(&args.config)?;
    config.image = config.image.map(|image| beside(&args.config, &image));
    if let Some(image) = config.image.take_if(|image| is_linux_file(image)) {
        let mut file = LinuxFile::read(&image)?;
        if file.vsock.as_os_str().is_empty() {
            // The agent of a cell's guest is woken by it.
            file.vsock = beside(&args.config, Path::new("guest.vsock"));
        }
        config.linux = Some(boot::linux_guest(&file)?);
    }
    let ended = config.check().and_then(|()| Node::new(config)?.run()).map_err(|e| match e {
        NodeError::Config(cause) => CommandError::PartConfig { path: args.config.clone(), cause },
        other => part("node", &other),
    })?;
    match ended {
        Ended::Stopped => Ok(Exit::Done),
        Ended::Restart => {
            tracing::warn!("this node starts over");
            let error = std::process::Command::new("/proc/self/exe").arg("node").arg(&args.config).exec();
            Err(part("node", &error))
        }
    }
}

/// Runs the edge until it is told to stop.
pub fn edge(args: &PartArgs) -> Result<Exit, CommandError> {
    log_to_stderr();
    let mut config: EdgeProcessConfig = read(&args.config)?;
    config.events = config.events.map(|events| place_beside(&args.config, events));
    escape_orchestrator::run_edge(config).map_err(|e| part("edge", &e))?;
    Ok(Exit::Done)
}

/// Runs the orchestrator until it is told to stop.
pub fn orchestrator(args: &PartArgs) -> Result<Exit, CommandError> {
    log_to_stderr();
    let mut config: OrchestratorProcessConfig = read(&args.config)?;
    config.store = place_beside(&args.config, config.store);
    config.events = config.events.map(|events| place_beside(&args.config, events));
    escape_orchestrator::run_orchestrator(config).map_err(|e| part("orchestrator", &e))?;
    Ok(Exit::Done)
}

pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<T, CommandError> {
    let text = std::fs::read_to_string(path).map_err(|source| CommandError::Read { path: path.to_owned(), source })?;
    toml::from_str(&text)
        .map_err(|source| CommandError::PartConfig { path: path.to_owned(), cause: source.to_string() })
}

/// A path in a configuration: a relative one begins at the configuration's directory, wherever the process was started.
/// A store that is looked for in the wrong place would be a new, empty one.
fn beside(configuration: &Path, path: &Path) -> PathBuf {
    configuration.parent().unwrap_or(Path::new("")).join(path)
}

fn place_beside(configuration: &Path, place: OutputPlace) -> OutputPlace {
    match place {
        OutputPlace::Path(path) => OutputPlace::Path(beside(configuration, &path)),
        descriptor @ OutputPlace::Fd(_) => descriptor,
    }
}

/// An error with its causes, printed once.
pub(super) fn part(part: &'static str, error: &dyn std::error::Error) -> CommandError {
    let mut cause = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let text = inner.to_string();
        if !cause.contains(&text) {
            cause = format!("{cause}: {text}");
        }
        source = inner.source();
    }
    CommandError::Part { part, cause }
}

/// Logs go to standard error; `ESCAPE_LOG` chooses what (default `info`).
pub(super) fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("ESCAPE_LOG").unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(std::io::stderr).init();
}
