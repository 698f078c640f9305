//! A host of the cell: a machine emulated in software with SVM, whose first program starts `escape node`.

use super::network::{Network, Wires};
use super::process::Process;
use crate::host::{Image, emulator};
use anyhow::Result;
use std::os::fd::AsRawFd;
use std::path::Path;

/// The machine.
pub struct CellHost {
    process: Process,
    wires: [u32; 3],
}

impl CellHost {
    /// Starts the machine. It copies its node's directory and starts the node.
    pub fn start(
        number: u16,
        network: &mut Network,
        image: &Path,
        escape: &Path,
        node: &Path,
        logs: &Path,
    ) -> Result<Self> {
        let wires = network.wires(number)?;
        let words = format!("lab.escape={} lab.node={} lab.number={number}", escape.display(), node.display());
        let mut command = emulator(&Image::in_directory(image)?, &words);
        let indices = Wires::indices(&wires);
        for (at, tap) in wires.taps.iter().enumerate() {
            command.arg("-netdev").arg(format!("tap,id=n{at},fd={}", tap.as_raw_fd()));
            command
                .arg("-device")
                .arg(format!("virtio-net-pci,netdev=n{at},mac=02:6c:61:62:{number:02x}:{at:02x},romfile="));
        }
        let inherited: Vec<i32> = wires.taps.iter().map(AsRawFd::as_raw_fd).collect();
        let log = logs.join(format!("host{number}.log"));
        // The emulator has the taps now; this program's copies are closed.
        let process = Process::start(command, &network.edge, &inherited, &log)?;
        Ok(Self { process, wires: indices })
    }

    /// Guests that have come up on it so far.
    pub fn guests_ready(&self) -> usize {
        self.process.said("guest ready")
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
    pub const fn wires(&self) -> [u32; 3] {
        self.wires
    }
}
