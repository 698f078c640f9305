//! The lab inside of one emulated machine with SVM: there it finds what it finds on a machine that has VMX or SVM, and runs without emulating
//! any more. So that this way is run, too, where there is no such machine.

use crate::host::{Image, absolute, emulator, with_console};
use anyhow::{Context, Result};
use std::path::Path;
use std::time::Duration;

/// Two nodes, two guests, edge, orchestrator and clients in one machine, MiB.
const MEMORY_MIB: u32 = 3072;
/// All of it: one emulated processor does the work of two.
const LIMIT: Duration = Duration::from_secs(900);

/// Runs the lab's one guest and its cell, and shows what they say.
pub fn run(escape: &Path, guest: &Path, host: &Path) -> Result<()> {
    let program = std::env::current_exe().context("this program's path")?;
    let (escape, guest) = (absolute(escape)?, absolute(guest)?);
    let words = format!(
        "lab.escape={} lab.guest={} lab.program={}",
        escape.display(),
        guest.display(),
        program.display()
    );
    let (mut process, mut console) = with_console(emulator(&Image::in_directory(host)?, MEMORY_MIB, &words), true)?;
    let outcome = console.wait_for("lab: the lab ended with 0", LIMIT);
    // It may have ended by itself.
    let _ = process.kill();
    let _ = process.wait();
    outcome.context("the lab inside")
}
