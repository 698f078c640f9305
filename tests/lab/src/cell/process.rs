//! Programs of the lab: each in a namespace, and none outlives the lab.

use anyhow::{Context, Result};
use escape_fabric::netns::{NetNs, enter_fd};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A program that runs; it is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it in a namespace with these descriptors, which keep their numbers; what it says goes to a file.
    pub fn start(mut command: Command, namespace: &NetNs, inherited: &[RawFd], log: &Path) -> Result<Self> {
        let output = File::create(log).with_context(|| log.display().to_string())?;
        let errors = output.try_clone().context("a log")?;
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        enter(&mut command, namespace, inherited);
        let child = command.spawn().with_context(|| format!("starting {command:?}"))?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) -> Result<()> {
        let pid = libc::pid_t::try_from(self.child.id()).context("a process id")?;
        // SAFETY: takes no pointers; the process is a child that was not waited for, so the number is its own.
        match unsafe { libc::kill(pid, signal) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()).context("kill"),
        }
    }

    /// How often it has said this.
    pub fn said(&self, text: &str) -> usize {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).matches(text).count()
    }

    /// Which of these it has said last.
    pub fn said_last<'a>(&self, texts: &[&'a str]) -> Option<&'a str> {
        let said = std::fs::read(&self.log).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        texts.iter().copied().filter_map(|text| Some((said.rfind(text)?, text))).max().map(|(_, text)| text)
    }

    /// What it has said last.
    pub fn tail(&self, bytes: usize) -> String {
        let said = std::fs::read(&self.log).unwrap_or_default();
        let from = said.len().saturating_sub(bytes);
        String::from_utf8_lossy(said.get(from..).unwrap_or_default()).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lets a command run in a namespace and end with this program.
pub fn enter(command: &mut Command, namespace: &NetNs, inherited: &[RawFd]) {
    let namespace = namespace.as_fd().as_raw_fd();
    let inherited = inherited.to_vec();
    // SAFETY: between fork and exec only async-signal-safe calls are made (setns, prctl, fcntl), on values that were made before.
    unsafe {
        command.pre_exec(move || {
            enter_fd(namespace)?;
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) < 0 {
                return Err(std::io::Error::last_os_error());
            }
            for fd in &inherited {
                if libc::fcntl(*fd, libc::F_SETFD, 0) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        })
    };
}
