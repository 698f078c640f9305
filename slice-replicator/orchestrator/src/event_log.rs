//! Events as lines of JSON, written by a thread of their own: a slow reader never delays a decision.

use crate::error::ProcessError;
use crate::events_place::OutputPlace;
use escape_engine::Micros;
use serde::Serialize;
use serde_json::{Value, json};
use std::fs::File;
use std::io::Write;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

/// Lines that may wait for the writer. Full: the event is dropped, and the next line that passes says how many were.
const LINES_MAX: usize = 4096;

/// One event.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct ProcessEvent {
    /// CLOCK_MONOTONIC, microseconds.
    pub(crate) t_us: Micros,
    /// What happened, in words joined by hyphens.
    pub(crate) event: &'static str,
    /// The node that it is about, if it is about one.
    pub(crate) node: Option<u16>,
    /// Whatever else belongs to it.
    pub(crate) detail: Value,
}

impl ProcessEvent {
    /// The process begins. Its detail ties `t_us` to the time of day.
    pub(crate) fn started(t_us: Micros) -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_ms = u64::try_from(unix.as_millis()).unwrap_or(u64::MAX);
        let detail = json!({ "unix_ms": unix_ms, "version": env!("CARGO_PKG_VERSION") });
        Self { t_us, event: "started", node: None, detail }
    }

    /// The process was asked to stop.
    pub(crate) const fn stopping(t_us: Micros) -> Self {
        Self { t_us, event: "stopping", node: None, detail: Value::Null }
    }
}

/// Where events go; nowhere without a place.
#[derive(Debug, Default)]
pub(crate) struct EventLog {
    lines: Option<SyncSender<ProcessEvent>>,
    writer: Option<JoinHandle<()>>,
    /// Since the last line that passed.
    dropped: u64,
    dropped_in_all: u64,
}

impl EventLog {
    /// Opens the place and starts the writer.
    pub(crate) fn start(place: Option<&OutputPlace>) -> Result<Self, ProcessError> {
        let Some(place) = place else { return Ok(Self::default()) };
        let file = place.open_to_append()?;
        let (lines, waiting) = sync_channel(LINES_MAX);
        let writer = std::thread::Builder::new()
            .name("events".into())
            .spawn(move || write_lines(file, &waiting))
            .map_err(ProcessError::system("thread for events"))?;
        Ok(Self { lines: Some(lines), writer: Some(writer), dropped: 0, dropped_in_all: 0 })
    }

    /// Events that were not written, since the start.
    pub(crate) const fn dropped_in_all(&self) -> u64 {
        self.dropped_in_all
    }

    /// Writes an event, later.
    pub(crate) fn write(&mut self, event: ProcessEvent) {
        let Some(lines) = &self.lines else { return };
        if self.dropped > 0 {
            let detail = json!({ "lines": self.dropped });
            let lost = ProcessEvent { t_us: event.t_us, event: "events-dropped", node: None, detail };
            if lines.try_send(lost).is_ok() {
                self.dropped = 0;
            }
        }
        match lines.try_send(event) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                self.dropped = self.dropped.saturating_add(1);
                self.dropped_in_all = self.dropped_in_all.saturating_add(1);
            }
            // The reader has gone: nobody wants events any more.
            Err(TrySendError::Disconnected(_)) => self.lines = None,
        }
    }
}

impl Drop for EventLog {
    fn drop(&mut self) {
        self.lines = None;
        if let Some(writer) = self.writer.take() {
            // It ends when the last line is written; a panic there has ended the process already.
            let _ = writer.join();
        }
    }
}

fn write_lines(mut file: File, waiting: &Receiver<ProcessEvent>) {
    let mut line = Vec::new();
    while let Ok(event) = waiting.recv() {
        line.clear();
        if serde_json::to_writer(&mut line, &event).is_err() {
            continue;
        }
        line.push(b'\n');
        if file.write_all(&line).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn events_become_lines_in_order() {
        let path = std::env::temp_dir().join(format!("escape-events-{}", std::process::id()));
        let mut log = EventLog::start(Some(&OutputPlace::Path(path.clone()))).unwrap();
        for t_us in 0..100 {
            log.write(ProcessEvent { t_us, event: "flipped", node: Some(3), detail: json!({ "group": t_us }) });
        }
        drop(log);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 100);
        assert_eq!(lines[7], json!({ "t_us": 7, "event": "flipped", "node": 3, "detail": { "group": 7 } }));
    }
}
