//! Commands on standard input, one a line, answered by one line of JSON: how a drill hurts a node and asks what it holds.

use crate::error::NodeError;
use crate::groups::Access;
use crate::node::Node;
use crate::tokens;
use escape_proto::Mode;
use escape_vmm::{Fault, VmError};
use mio::Interest;
use mio::unix::SourceFd;
use std::io::{Read, Write};

/// Longest line; a longer one is dropped.
const LINE_MAX: usize = 256;

impl Node {
    /// Watches standard input, if it is a pipe or terminal that can be watched.
    pub(crate) fn watch_operator(&mut self) -> Result<(), NodeError> {
        let fd = libc::STDIN_FILENO;
        // SAFETY: F_GETFL and F_SETFL take no pointers; standard input is this process's own.
        unsafe {
            let flags = libc::fcntl(fd, libc::F_GETFL);
            if flags >= 0 {
                libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK);
            }
        }
        match self.poll.registry().register(&mut SourceFd(&fd), tokens::OPERATOR, Interest::READABLE) {
            // A file or /dev/null cannot be watched, and has nothing to say.
            Err(e) if e.raw_os_error() != Some(libc::EPERM) => Err(NodeError::os("watch standard input")(e)),
            _ => Ok(()),
        }
    }

    /// Standard input has something.
    pub(crate) fn on_operator(&mut self) {
        let mut bytes = [0u8; 1024];
        loop {
            match std::io::stdin().lock().read(&mut bytes) {
                Ok(0) => {
                    let fd = libc::STDIN_FILENO;
                    // End of input: nothing more will come; the node goes on.
                    let _ = self.poll.registry().deregister(&mut SourceFd(&fd));
                    return;
                }
                Ok(n) => {
                    self.operator_line.extend_from_slice(bytes.get(..n).unwrap_or_default());
                    self.take_lines();
                }
                Err(_) => return,
            }
        }
    }

    fn take_lines(&mut self) {
        while let Some(end) = self.operator_line.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.operator_line.drain(..=end).collect();
            let answer = self.command(String::from_utf8_lossy(&line).trim());
            // Whoever asked may be gone; that is no reason to end.
            let _ = writeln!(std::io::stdout().lock(), "{answer}");
        }
        if self.operator_line.len() > LINE_MAX {
            self.operator_line.clear();
        }
    }

    fn command(&mut self, line: &str) -> serde_json::Value {
        match line {
            "held" => serde_json::json!({ "held": self.held_frames() }),
            "status" => self.status(),
            "counters" => self.counters(),
            "stages" => self.stages.take(),
            "wire" => self.wire_ratios.take(),
            "fault crash" => self.fault(Fault::Crash),
            "fault spin" => self.fault(Fault::Spin),
            "stop" => {
                self.stopping = true;
                serde_json::json!({ "ok": true })
            }
            other => match other.strip_prefix("flow ").map(str::parse) {
                Some(Ok(client)) => self.flow_report(client),
                _ => serde_json::json!({ "error": format!("unknown command {other:?}") }),
            },
        }
    }

    fn fault(&mut self, fault: Fault) -> serde_json::Value {
        match self.vm.inject_fault(fault) {
            Ok(()) => serde_json::json!({ "ok": true }),
            Err(error) => {
                serde_json::json!({ "error": error.to_string(), "again": matches!(error, VmError::AtWork) })
            }
        }
    }

    /// Owned groups without a standby, or whose input is not let in yet.
    pub(crate) fn unpaired_groups(&self) -> usize {
        let owned = self.engine.group_records().filter(|r| Some(r.owner) == self.me);
        let unpaired = |mode| mode != Mode::Paired && self.config.replication;
        owned.filter(|r| unpaired(r.mode) || self.groups.access(r.group) != Access::Open).count()
    }

    fn counters(&self) -> serde_json::Value {
        serde_json::json!({
            "node": self.metrics,
            "links": self.peers.traffic(),
            "metrics": self.reading().to_json(),
        })
    }

    fn status(&self) -> serde_json::Value {
        let now = self.now();
        let counts = self.counts(now);
        serde_json::json!({
            "member": self.me.map(|m| m.to_string()),
            "guest": self.guest_running,
            "slices": self.slices.len(),
            "groups": self.engine.group_records().filter(|r| Some(r.owner) == self.me).count(),
            "unpaired": self.unpaired_groups(),
            "protected": counts.protected,
            "solo": counts.solo,
            "standby": counts.standby,
            "held": counts.held_frames,
            "held_age_us": counts.held_age_us,
            "metrics": self.metrics,
        })
    }
}
