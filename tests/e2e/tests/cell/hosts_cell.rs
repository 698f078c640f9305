//! The processes of a cell on three hosts, from what `escape cell init` made of a replication file.

use super::escape;
use super::hosts_network::HostsNetwork;
use super::tidy::Directory;
use escape::cell::{CellProcess, Configuration, Launch, NodeStatus};
use escape_fabric::netns::NetNs;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

const NODES: [&str; 3] = ["node-1", "node-2", "node-3"];
/// Groups of the cell: eight per node, as the file says.
const GROUPS: u64 = 24;
const SETTLE_MAX: Duration = Duration::from_secs(30);
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// The service, as the file says.
pub const SERVICE: &str = "10.77.0.10:8080";

/// Nothing in it is a default that this program would have anyway, but for the names of interfaces. The times suit a
/// machine that is busy with other things.
const FILE: &str = r#"
[cell]
uuid = "7d6a3a60-55b0-4a4f-9b5e-0c8f6f1f2a3b"
slots = 4096
leases_per_node = 4
groups_per_node = 8

[service]
http_port = 8080

[timings]
heartbeat_ms = 10
suspect_after_ms = 250
progress_timeout_ms = 2000
guest_timeout_ms = 2000
pause_limit_ms = 200

[quotas]
held_kib_per_slice = 256
held_ms = 5000

[control]
orchestrator = "10.78.0.1:7400"
edge = "10.78.0.1:7401"
store = "store.redb"
events = "events.jsonl"

[[nodes]]
id = 1
host = "alpha"
control = "10.78.0.11:7400"

[[nodes]]
id = 2
host = "beta"
control = "10.78.0.12:7400"

[[nodes]]
id = 3
host = "gamma"
control = "10.78.0.13:7400"
"#;

/// The processes, each on its host. All end when this is dropped.
pub struct HostsCell<'a> {
    processes: BTreeMap<String, CellProcess>,
    plans: BTreeMap<String, Plan>,
    network: &'a HostsNetwork,
}

/// How a process is started: what `escape cell init --json` told, and where its directory was copied to.
struct Plan {
    part: String,
    configuration: PathBuf,
}

impl<'a> HostsCell<'a> {
    pub fn start(directory: &Directory, network: &'a HostsNetwork) -> Self {
        let mut cell = Self { processes: BTreeMap::new(), plans: plans(directory, FILE), network };
        for process in ["orchestrator", "edge"].into_iter().chain(NODES) {
            cell.start_process(process);
        }
        cell
    }

    /// Two hosts only, of a cell that is the same but for its image and the time that a guest has to boot.
    pub fn start_first_node(directory: &Directory, network: &'a HostsNetwork, image: &Path, boot_ms: u32) -> Self {
        let file = FILE.replace("[cell]", &format!("[cell]\nimage = {image:?}"));
        let file = file.replace("[timings]", &format!("[timings]\nguest_boot_ms = {boot_ms}"));
        let mut cell = Self { processes: BTreeMap::new(), plans: plans(directory, &file), network };
        ["orchestrator", NODES[0]].into_iter().for_each(|process| cell.start_process(process));
        cell
    }

    /// Where the orchestrator writes its events.
    pub fn events(&self) -> PathBuf {
        self.plans["orchestrator"].configuration.with_file_name("events.jsonl")
    }

    fn start_process(&mut self, name: &str) {
        let plan = self.plans.get(name).unwrap_or_else(|| panic!("cell init made no {name}"));
        let launch = Launch {
            name: name.into(),
            part: &plan.part,
            options: &[],
            config: Configuration::File(plan.configuration.clone()),
            namespace: self.host_of(name),
            descriptors: Vec::new(),
        };
        let process = CellProcess::start(launch).unwrap();
        self.processes.insert(name.into(), process);
    }

    fn host_of(&self, name: &str) -> &'a NetNs {
        let node: Option<usize> = name.strip_prefix("node-").map(|id| id.parse().unwrap());
        node.map_or(&self.network.edge, |node| &self.network.nodes[node - 1])
    }

    pub fn start_node(&mut self, node: u16) {
        self.start_process(&format!("node-{node}"));
    }

    pub fn kill(&mut self, node: u16) {
        let process = self.processes.remove(&format!("node-{node}")).unwrap();
        process.signal(libc::SIGKILL).unwrap();
    }

    fn ask(&mut self, name: &str, question: &str) -> serde_json::Value {
        let answer = self.processes.get_mut(name).unwrap().ask(question, ANSWER_MAX).unwrap();
        serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{name}: {e}: {answer}"))
    }

    /// Waits until three nodes run and each group has an owner and a standby.
    pub fn wait_settled(&mut self) {
        let begun = Instant::now();
        loop {
            self.processes.values_mut().for_each(|process| process.check().unwrap());
            let statuses = NODES.map(|node| {
                let status = self.ask(node, "status");
                serde_json::from_value::<NodeStatus>(status).unwrap()
            });
            let owned: u64 = statuses.iter().map(|status| status.groups).sum();
            if owned >= GROUPS && statuses.iter().all(NodeStatus::is_settled) {
                return;
            }
            assert!(begun.elapsed() < SETTLE_MAX, "not settled: {statuses:?}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// `escape status` from another directory and host says that all is well, and what happened last.
    pub fn check_status(&mut self, happened: &str) {
        self.start_process("operator");
        let mut process = self.processes.remove("operator").unwrap();
        let mut told = Vec::new();
        while !told.last().is_some_and(|line: &String| line.starts_with("status: ")) {
            told.push(process.answer(ANSWER_MAX).unwrap());
        }
        assert_eq!(told.last().map(String::as_str), Some("status: well"), "{told:#?}");
        assert!(told.iter().any(|line| line.starts_with(happened)), "{told:#?}");
        for (node, host) in [("1", "alpha"), ("2", "beta"), ("3", "gamma")] {
            let is_told = |line: &String| {
                let words: Vec<&str> = line.split_whitespace().collect();
                matches!(words[..], [id, _, at, "up" | "suspected", ..] if id == node && at == host)
            };
            assert!(told.iter().any(is_told), "no node {node} up on {host}: {told:#?}");
        }
    }

    /// `escape move SESSION` and more, asked from the operator's host.
    pub fn move_session(&self, session: &str, more: &[&str]) -> Output {
        let mut command = self.move_command(session, more);
        self.network.edge.enter(|| command.output()).unwrap().unwrap()
    }

    /// That command, to be run in the operator's namespace.
    pub fn move_command(&self, session: &str, more: &[&str]) -> Command {
        let operator = &self.plans["operator"].configuration;
        let mut command = escape(&["move", session, "--json", "--config"]);
        command.arg(operator).args(more);
        command
    }

    /// Copies of clients' frames came to every node that stands by for slices, on another host than their owner.
    pub fn check_mirror(&mut self) {
        let mut standbys = 0;
        for node in NODES {
            if self.ask(node, "status")["standby"].as_u64().unwrap() == 0 {
                continue; // Nodes that joined before it may have chosen each other.
            }
            standbys += 1;
            let counters = self.ask(node, "counters");
            let ingress = &counters["metrics"]["escape_ingress_frames_total"];
            assert!(ingress["stored"].as_u64().unwrap() > 0, "{node} got nothing on its mirror: {counters}");
        }
        assert!(standbys > 0, "nobody stands by for anything");
    }
}

impl Drop for HostsCell<'_> {
    /// Whoever looks for the cause of a failure wants to know where frames went.
    fn drop(&mut self) {
        if thread::panicking() {
            for (name, process) in &mut self.processes {
                let told = process.ask("counters", ANSWER_MAX);
                eprintln!("[{name}] {}", told.unwrap_or_else(|error| error.to_string()));
            }
        }
    }
}

/// Runs `escape cell init` and copies each process's directory to a place of its own.
fn plans(directory: &Directory, content: &str) -> BTreeMap<String, Plan> {
    let (file, out) = (directory.file("cell.toml"), directory.file("cell"));
    std::fs::write(&file, content).unwrap();
    let output = escape(&["cell", "init", "--json"]).arg(&file).arg("--out").arg(&out).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let text =
        |value: &serde_json::Value, key: &str| value[key].as_str().unwrap_or_else(|| panic!("no {key}")).to_owned();
    let processes = report["processes"].as_array().unwrap().iter().map(|process| {
        let name = text(process, "process");
        let host = directory.file(&format!("host-of-{name}"));
        copy_directory(Path::new(&text(process, "directory")), &host.join(&name));
        let command = text(process, "command");
        let words: Vec<&str> = command.split(' ').collect();
        let ["escape", part, configuration] = words[..] else { panic!("not a command: {command}") };
        (name, Plan { part: part.into(), configuration: host.join(configuration) })
    });
    processes.collect()
}

fn copy_directory(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
