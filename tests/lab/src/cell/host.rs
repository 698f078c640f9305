//! A host of the cell with `escape node` on it: a machine emulated in software with SVM, or a network namespace of this machine.

use super::network::{Network, Wires};
use super::process::Process;
use super::scenario::CellParts;
use crate::host::{HOST_MIB, Image, Kind, emulator};
use anyhow::{Context, Result, ensure};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;

/// A node's word for a guest that serves.
const GUEST_READY: &str = "guest ready";

/// The host.
pub struct CellHost {
    /// The emulator, or the node itself.
    process: Process,
    wires: Wires,
}

impl CellHost {
    /// Starts the host with a copy of its node's directory, and the node.
    pub fn start(number: u16, network: &mut Network, parts: CellParts<'_>, node: &Path, logs: &Path) -> Result<Self> {
        match parts.kind {
            Kind::Emulated => Self::emulate(number, network, parts, node, logs),
            Kind::This => Self::on_this_machine(number, network, parts.escape, node, logs),
        }
    }

    /// A machine whose first program copies the directory and starts the node.
    fn emulate(number: u16, network: &mut Network, parts: CellParts<'_>, node: &Path, logs: &Path) -> Result<Self> {
        let (taps, wires) = network.taps(number)?;
        let words = format!("lab.escape={} lab.node={} lab.number={number}", parts.escape.display(), node.display());
        let mut command = emulator(&Image::in_directory(parts.host)?, HOST_MIB, &words);
        for (at, tap) in taps.iter().enumerate() {
            command.arg("-netdev").arg(format!("tap,id=n{at},fd={}", tap.as_raw_fd()));
            command
                .arg("-device")
                .arg(format!("virtio-net-pci,netdev=n{at},mac=02:6c:61:62:{number:02x}:{at:02x},romfile="));
        }
        let inherited: Vec<i32> = taps.iter().map(AsRawFd::as_raw_fd).collect();
        // The emulator has the taps then; this program's copies are closed.
        let process = Process::start(command, &network.edge, &inherited, &log_of(number, logs))?;
        Ok(Self { process, wires })
    }

    /// A namespace of this machine; a new life of the node begins with its directory as it was made.
    fn on_this_machine(number: u16, network: &mut Network, escape: &Path, node: &Path, logs: &Path) -> Result<Self> {
        let own = logs.join(format!("host{number}"));
        if own.exists() {
            std::fs::remove_dir_all(&own).context("the node's former directory")?;
        }
        let copied = Command::new("cp").arg("-r").args([node, &own]).status().context("cp")?;
        ensure!(copied.success(), "the node's directory cannot be copied to {}", own.display());
        let (namespace, wires) = network.namespace(number)?;
        let mut command = Command::new(escape);
        command.arg("node").arg(own.join("node.toml"));
        Ok(Self { process: Process::start(command, namespace, &[], &log_of(number, logs))?, wires })
    }

    /// It is gone, without a last word: nothing is heard of what its kernel says when its programs end.
    pub fn die(self, network: &mut Network) -> Result<()> {
        network.cut(self.wires, true)
    }

    /// Guests that have come up on it so far.
    pub fn guests_ready(&self) -> usize {
        self.process.said(GUEST_READY)
    }

    /// The guest of its node's present life has come up.
    pub fn has_guest(&self) -> bool {
        self.guests_ready() > 0 && self.process.said_last(&[GUEST_READY, "joined member="]) == Some(GUEST_READY)
    }

    /// Agents of its guests that have ended and were followed by others.
    pub fn agents_ended(&self) -> usize {
        self.process.said("is started again")
    }

    /// Its process.
    pub const fn process(&self) -> &Process {
        &self.process
    }

    /// Its wires.
    pub const fn wires(&self) -> Wires {
        self.wires
    }
}

fn log_of(number: u16, logs: &Path) -> std::path::PathBuf {
    logs.join(format!("host{number}.log"))
}
