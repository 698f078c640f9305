//! The processes that serve slices.

use escape_process::{Channel, Message};
use std::os::fd::BorrowedFd;

/// Processes of one guest.
pub const PROCESSES_MAX: usize = 64;

/// Tells a process. One that does not hear is found dead by its end.
pub fn say(process: &Channel, message: Message, descriptors: &[BorrowedFd<'_>]) {
    #[cfg(test)]
    super::crash::step();
    let _ = process.send(message, descriptors);
}

/// One of them.
#[derive(Debug)]
pub struct Process {
    /// Its name here; never used again.
    pub id: u64,
    /// Its end.
    pub channel: Channel,
    /// Ports that it serves; none before it has registered.
    pub ports: Vec<u16>,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Processes {
    all: Vec<Process>,
    next_id: u64,
}

impl Processes {
    /// One has called; `None`: there are too many.
    pub fn add(&mut self, channel: Channel) -> Option<u64> {
        if self.all.len() >= PROCESSES_MAX {
            return None;
        }
        self.next_id += 1;
        self.all.push(Process { id: self.next_id, channel, ports: Vec::new() });
        Some(self.next_id)
    }

    /// One that a former agent has served.
    pub fn restore(&mut self, process: Process) {
        self.next_id = self.next_id.max(process.id);
        self.all.push(process);
    }

    /// A former agent has used this number.
    pub fn has_used(&mut self, id: u64) {
        self.next_id = self.next_id.max(id);
    }

    /// One of them.
    pub fn get(&self, id: u64) -> Option<&Process> {
        self.all.iter().find(|process| process.id == id)
    }

    /// One of them has registered.
    pub fn register(&mut self, id: u64, ports: &[u16]) {
        if let Some(process) = self.all.iter_mut().find(|process| process.id == id) {
            process.ports = ports.iter().copied().filter(|port| *port != 0).collect();
        }
    }

    /// The one that has served a port for longest.
    pub fn of_port(&self, port: u16) -> Option<&Process> {
        self.all.iter().find(|process| process.ports.contains(&port))
    }

    /// One is gone.
    pub fn remove(&mut self, id: u64) {
        self.all.retain(|process| process.id != id);
    }

    /// All.
    pub fn iter(&self) -> impl Iterator<Item = &Process> {
        self.all.iter()
    }
}
