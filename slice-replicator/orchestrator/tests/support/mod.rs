//! Nodes that speak the cluster's protocol over real links, and an orchestrator that runs beside them.
#![allow(dead_code, clippy::unwrap_used)]

pub mod edge_bed;
pub mod fake_node;
pub mod fake_operator;
pub mod running;

use std::path::PathBuf;
use std::time::Duration;

/// No test waits longer for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A directory that is removed at the end of a test.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("escape-orchestrator-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
