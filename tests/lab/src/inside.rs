//! The lab inside of one emulated machine with SVM: there it finds what it finds on a machine that has VMX or SVM, and runs without emulating
//! any more. So that this way is run, too, where there is no such machine.

use crate::host::{Image, absolute, emulator, with_console};
use anyhow::{Context, Result};
use std::path::Path;
use std::time::Duration;

/// Two nodes, two guests, edge, orchestrator and clients in one machine, MiB.
const MEMORY_MIB: u32 = 3072;
/// All of it: one emulated processor does the work of all.
const LIMIT: Duration = Duration::from_secs(900);

/// What the machine finds on this one.
#[derive(Clone, Copy, Debug)]
pub struct Inside<'a> {
    /// The `escape` program.
    pub escape: &'a Path,
    /// Directories of the guests' image and the machine's.
    pub guest: &'a Path,
    /// See `guest`.
    pub host: &'a Path,
}

impl Inside<'_> {
    /// Runs the lab's one guest and its cell, and the cell of this image with known servers; shows what they say.
    pub fn run(self, servers: Option<&Path>) -> Result<()> {
        let program = std::env::current_exe().context("this program's path")?;
        let (escape, guest) = (absolute(self.escape)?, absolute(self.guest)?);
        let mut words =
            format!("lab.escape={} lab.guest={} lab.program={}", escape.display(), guest.display(), program.display());
        if let Some(servers) = servers {
            words += &format!(" lab.servers={}", absolute(servers)?.display());
        }
        let machine = emulator(&Image::in_directory(self.host)?, MEMORY_MIB, &words);
        let (mut process, mut console) = with_console(machine, true)?;
        let outcome = console.wait_for("lab: the lab ended with 0", LIMIT);
        // It may have ended by itself.
        let _ = process.kill();
        let _ = process.wait();
        // The machine's last line has no end of its own.
        println!();
        outcome.context("the lab inside")
    }
}
