//! The lab: Linux guests under `escape boot`, driven over their console.
//!
//! KVM is needed for Linux guests, and not every machine that runs these tests has VMX or SVM. Without them each host is a machine of
//! its own, emulated in software with SVM, and runs the same program on the same files.

mod cell;
mod console;
mod host;
mod inside;
mod scenario;
mod steps;

use anyhow::{Context, Result};
use clap::Parser;
use host::{Host, Keys, Kind, Parts};
use std::path::PathBuf;
use std::time::Duration;

/// Boots a Linux guest with `escape boot` and uses it.
#[derive(Debug, Parser)]
struct Options {
    /// The `escape` program.
    #[arg(long)]
    escape: PathBuf,
    /// Where `escape image build images/linux/debian.toml` has put the guest's kernel and initial file system.
    #[arg(long, default_value = "images/linux/debian")]
    guest: PathBuf,
    /// Where `escape image build tests/lab/host.toml` has put those of the host.
    #[arg(long, default_value = "tests/lab/host")]
    host: PathBuf,
    /// Emulate the host even if this machine could be it.
    #[arg(long)]
    emulate: bool,
    /// The console over which the guest is driven.
    #[arg(long, value_enum, default_value = "serial")]
    keys: Keys,
    /// A cell of two hosts instead, which fail.
    #[arg(long)]
    cell: bool,
    /// The cell's guests run known servers instead of the sample service: this lighttpd, ported to slices and static, and Debian's nginx.
    #[arg(long, requires = "preload")]
    lighttpd: Option<PathBuf>,
    /// The library that is preloaded into nginx.
    #[arg(long, requires = "lighttpd")]
    preload: Option<PathBuf>,
    /// The same with an image that was made before.
    #[arg(long, requires = "cell", conflicts_with = "lighttpd")]
    servers: Option<PathBuf>,
    /// All of it within one emulated machine with SVM, as it runs on a machine that has it.
    #[arg(long, conflicts_with = "cell")]
    inside: bool,
    /// The cell's hosts fail as chance has it, again and again, for so many minutes.
    #[arg(long, value_name = "MINUTES", requires = "cell", conflicts_with_all = ["lighttpd", "servers"])]
    soak: Option<u64>,
    /// Of what is left to chance in the cell; any, if it is not said.
    #[arg(long)]
    seed: Option<u64>,
    /// Print everything that the consoles say; of a cell, the end of it.
    #[arg(long)]
    verbose: bool,
}

impl Options {
    fn known_servers(&self) -> Option<cell::Servers<'_>> {
        Some(cell::Servers { lighttpd: self.lighttpd.as_deref()?, preload: self.preload.as_deref()? })
    }
}

fn main() -> Result<()> {
    let options = Options::parse();
    let kind = if options.emulate { Kind::Emulated } else { Kind::of_this_machine() };
    if options.inside {
        println!("lab: inside of an emulated machine with SVM");
        let Options { escape, guest, host, .. } = &options;
        let inside = inside::Inside { escape, guest, host };
        return match options.known_servers() {
            None => inside.run(None),
            Some(servers) => cell::in_directory(|directory| inside.run(Some(&servers.image(escape, directory)?))),
        };
    }
    if options.cell {
        let Options { escape, guest, host, .. } = &options;
        let escape = std::fs::canonicalize(escape).with_context(|| escape.display().to_string())?;
        let each =
            if kind == Kind::This { "a network namespace of this machine" } else { "an emulated machine with SVM" };
        println!("lab: a cell of two hosts, each {each}");
        let seed = options.seed.unwrap_or_else(|| std::process::id().into());
        let parts = cell::CellParts { kind, seed, escape: &escape, guest, host };
        let steps = match (options.known_servers(), &options.servers) {
            (Some(servers), _) => cell::in_directory(|directory| {
                let guest = servers.image(&escape, directory)?;
                cell::serve_known(cell::CellParts { guest: &guest, ..parts }, options.verbose)
            }),
            (None, Some(guest)) => cell::serve_known(cell::CellParts { guest, ..parts }, options.verbose),
            (None, None) => match options.soak {
                Some(minutes) => cell::fail_over_for(parts, Duration::from_secs(minutes * 60), options.verbose),
                None => cell::fail_over(parts, options.verbose),
            },
        };
        let steps = steps.context("lab")?;
        println!("lab: {steps} steps passed, 0 failed");
        return Ok(());
    }
    println!("lab: the host is {kind}, the guest's console is {:?}", options.keys);
    let Options { escape, guest, host, keys, .. } = &options;
    let mut host = Host::start(kind, Parts { escape, guest, host, keys: *keys }, options.verbose)?;
    let outcome = scenario::boot_use_reboot_power_off(&mut host);
    if outcome.is_err() {
        eprintln!("the end of the console:\n{}", host.console().tail());
    }
    let steps = outcome.context("lab")?;
    println!("lab: {steps} steps passed, 0 failed");
    Ok(())
}
