//! Orchestrator and edge, the cell's files, and what `escape status` says.

use super::network::Network;
use super::process::{Process, enter};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Groups of the cell: two per node.
const GROUPS: usize = 4;

/// Times for hosts that are emulated on a busy machine. Slots for every host that dies: those beside a session that goes on for ever are used
/// by nobody. The rest is a cell's as people would write it.
fn replication_file(image: &Path) -> String {
    let node =
        |id: u8, host: &str| format!("[[nodes]]\nid = {id}\nhost = \"{host}\"\ncontrol = \"10.78.0.1{id}:7400\"\n\n");
    format!(
        "[cell]\nuuid = \"0b4a5a3a-55b0-4a4f-9b5e-1c8f6f1f2a3c\"\nimage = {image:?}\nram_mib = 192\nslots = 1024\nleases_per_node = 1\n\
         groups_per_node = 2\n\n[timings]\nheartbeat_ms = 50\nsuspect_after_ms = 1000\nprogress_timeout_ms = 5000\n\
         guest_timeout_ms = 10000\nguest_boot_ms = 100000\npause_limit_ms = 800\n\n[control]\norchestrator = \"10.78.0.1:7400\"\n\
         edge = \"10.78.0.1:7401\"\n\n{}{}",
        node(1, "alpha"),
        node(2, "beta")
    )
}

/// The cell's processes that are not nodes.
pub struct Control {
    escape: PathBuf,
    directory: PathBuf,
    processes: Vec<(&'static str, Process)>,
}

impl Control {
    /// Makes the cell's files and starts orchestrator and edge.
    pub fn start(escape: &Path, image: &Path, directory: &Path, network: &Network) -> Result<Self> {
        let file = directory.join("cell.toml");
        std::fs::write(&file, replication_file(image)).context("the replication file")?;
        let cells = directory.join("cell");
        let output = Command::new(escape).args(["cell", "init"]).arg(&file).arg("--out").arg(&cells).output();
        let output = output.context("escape cell init")?;
        ensure!(output.status.success(), "escape cell init: {}", String::from_utf8_lossy(&output.stderr));
        let mut processes = Vec::new();
        for part in ["orchestrator", "edge"] {
            let mut command = Command::new(escape);
            command.arg(part).arg(cells.join(part).join(format!("{part}.toml")));
            processes
                .push((part, Process::start(command, &network.edge, &[], &directory.join(format!("{part}.log")))?));
        }
        Ok(Self { escape: escape.to_owned(), directory: directory.to_owned(), processes })
    }

    /// A node's directory.
    pub fn node_directory(&self, node: u16) -> PathBuf {
        self.directory.join("cell").join(format!("node-{node}"))
    }

    /// What `escape status --json` says.
    pub fn status(&self, network: &Network) -> Result<Value> {
        let mut command = Command::new(&self.escape);
        command.arg("status").arg(self.directory.join("cell/operator/operator.toml")).arg("--json");
        enter(&mut command, &network.edge, &[]);
        let output = command.output().context("escape status")?;
        let text = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(&text).with_context(|| format!("{text}{}", String::from_utf8_lossy(&output.stderr)))
    }

    /// `escape move` for the session of this client, running.
    pub fn begin_move(&self, network: &Network, client: &str) -> Result<Child> {
        let mut command = Command::new(&self.escape);
        command.args(["move", client, "--json", "--config"]).arg(self.directory.join("cell/operator/operator.toml"));
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        enter(&mut command, &network.edge, &[]);
        command.spawn().context("escape move")
    }

    /// The node that owns the most slices.
    pub fn busiest_node(&self, network: &Network) -> Result<u16> {
        let status = self.status(network)?;
        let mut slices: BTreeMap<u64, u64> = BTreeMap::new();
        for group in status.get("groups").and_then(Value::as_array).context("groups")? {
            let number = |key: &str| group.get(key).and_then(Value::as_u64).unwrap_or(0);
            *slices.entry(number("owner")).or_default() += number("protected") + number("solo");
        }
        let busiest = slices.into_iter().max_by_key(|(_, count)| *count).context("no groups")?.0;
        u16::try_from(busiest).context("a node's number")
    }

    /// Failovers so far.
    pub fn failovers(&self, network: &Network) -> Result<u64> {
        self.status(network)?.get("failovers").and_then(Value::as_u64).context("how many failovers")
    }

    /// What the last failover took, in words.
    pub fn last_failover(&self, network: &Network) -> Result<String> {
        let status = self.status(network)?;
        let last = status.get("last_failover").context("no failover")?;
        let seconds = |us: Option<&Value>| us.and_then(Value::as_f64).map(|us| us / 1e6);
        let found = seconds(last.pointer("/cause/silent/silent_us"));
        let found = found.map_or("found by its end".to_owned(), |s| format!("found after {s:.2} s"));
        let plugged = seconds(last.get("plugged_us"));
        Ok(plugged.map_or(found.clone(), |s| format!("{found}, all plugged {s:.2} s later")))
    }

    /// Waits until every group has an owner and a standby, and every slice a copy. Returns how long that took.
    pub fn wait_settled(&self, network: &Network, limit: Duration) -> Result<Duration> {
        let begun = Instant::now();
        loop {
            let status = self.status(network);
            if status.as_ref().is_ok_and(is_settled) {
                return Ok(begun.elapsed());
            }
            if begun.elapsed() > limit {
                bail!("not settled within {limit:?}: {status:#?}");
            }
            std::thread::sleep(Duration::from_millis(250));
        }
    }

    /// What the processes have said last.
    pub fn tails(&self) -> String {
        let tail = |(name, process): &(&str, Process)| format!("== {name}\n{}\n", process.tail(2000));
        self.processes.iter().map(tail).collect()
    }
}

fn is_settled(status: &Value) -> bool {
    let groups = status.get("groups").and_then(Value::as_array);
    let paired = |group: &&Value| group.get("standby").is_some_and(|standby| !standby.is_null());
    let solo = |group: &Value| group.get("solo").and_then(Value::as_u64).unwrap_or(0);
    groups.is_some_and(|groups| {
        groups.iter().filter(paired).count() >= GROUPS && groups.iter().map(solo).sum::<u64>() == 0
    })
}
