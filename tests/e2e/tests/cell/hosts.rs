//! A cell on three hosts from its replication file alone: `escape cell init`, each directory copied to its host, processes
//! started there by the commands that it told. Sessions outlive the kill of two nodes, one after the other.

use super::hosts_network::HostsNetwork;
use super::session::Session;
use super::tidy::Directory;
use super::{cells_run_here, escape};
use escape::cell::{CellProcess, Configuration, Launch, NodeStatus};
use escape_fabric::netns::NetNs;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const NODES: [&str; 3] = ["node-1", "node-2", "node-3"];
const SESSIONS: usize = 24;
/// Groups of the cell: eight per node, as the file says.
const GROUPS: u64 = 24;
const SETTLE_MAX: Duration = Duration::from_secs(30);
const ANSWER_MAX: Duration = Duration::from_secs(2);
const SERVICE: &str = "10.77.0.10:8080";

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

/// From the file to sessions that outlive their nodes.
pub fn from_its_file() {
    if !cells_run_here("the cell on three hosts") {
        return;
    }
    let directory = Directory::new("hosts");
    let network = HostsNetwork::new(3);
    let mut cell = HostsCell::start(&directory, &network);
    cell.wait_settled();
    let service: SocketAddr = SERVICE.parse().unwrap();
    let mut sessions: Vec<Session> = (0..SESSIONS).map(|_| Session::open(&network.clients, service)).collect();
    count_all(&mut sessions, 5);
    cell.check_mirror();
    let mut dead = Vec::new();
    for _ in 0..2 {
        let node = busiest(&mut sessions, &dead);
        kill_under_load(&mut cell, node, &mut sessions);
        let served = places(&mut sessions);
        assert!(!served.contains_key(&node), "node {node} was killed: {served:?}");
        let begun = Instant::now();
        cell.start_node(node);
        cell.wait_settled();
        let settled = begun.elapsed();
        count_all(&mut sessions, 5);
        println!(
            "node {node} killed, all {SESSIONS} sessions went on: {served:?}; three nodes again after {settled:?}"
        );
        dead.push(node);
    }
    cell.check_status(&format!("failovers: {}; last ", dead.len()));
    let longest = sessions.iter().map(|session| session.longest).max().unwrap();
    println!("longest wait for a reply {longest:?}");
}

/// Half of the sessions have requests on their way when the node dies; the others ask when it is dead.
fn kill_under_load(cell: &mut HostsCell<'_>, node: u16, sessions: &mut [Session]) {
    let over = AtomicBool::new(false);
    let (busy, idle) = sessions.split_at_mut(SESSIONS / 2);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                count_all(busy, 1);
            }
        });
        // Ends the load whatever fails here.
        let _ending = Ending(&over);
        thread::sleep(Duration::from_millis(50));
        cell.kill(node);
        count_all(idle, 10);
    });
}

/// Says that it is over when it is dropped.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn count_all(sessions: &mut [Session], times: usize) {
    for _ in 0..times {
        sessions.iter_mut().for_each(Session::count);
    }
}

/// Sessions by the node that serves them.
fn places(sessions: &mut [Session]) -> BTreeMap<u16, usize> {
    let mut served = BTreeMap::new();
    for session in sessions {
        *served.entry(session.node()).or_default() += 1;
    }
    served
}

/// The node with the most sessions that has not been killed before.
fn busiest(sessions: &mut [Session], dead: &[u16]) -> u16 {
    let served = places(sessions);
    let living = served.iter().filter(|(node, _)| !dead.contains(node));
    *living.max_by_key(|(_, count)| **count).unwrap_or_else(|| panic!("{served:?}")).0
}

/// The processes, each on its host. All end when this is dropped.
struct HostsCell<'a> {
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
    fn start(directory: &Directory, network: &'a HostsNetwork) -> Self {
        let mut cell = Self { processes: BTreeMap::new(), plans: plans(directory), network };
        for process in ["orchestrator", "edge"].into_iter().chain(NODES) {
            cell.start_process(process);
        }
        cell
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

    fn start_node(&mut self, node: u16) {
        self.start_process(&format!("node-{node}"));
    }

    fn kill(&mut self, node: u16) {
        let process = self.processes.remove(&format!("node-{node}")).unwrap();
        process.signal(libc::SIGKILL).unwrap();
    }

    fn ask(&mut self, name: &str, question: &str) -> serde_json::Value {
        let answer = self.processes.get_mut(name).unwrap().ask(question, ANSWER_MAX).unwrap();
        serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{name}: {e}: {answer}"))
    }

    /// Waits until three nodes run and each group has an owner and a standby.
    fn wait_settled(&mut self) {
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
    fn check_status(&mut self, happened: &str) {
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

    /// Copies of clients' frames came to every node that stands by for slices, on another host than their owner.
    fn check_mirror(&mut self) {
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
fn plans(directory: &Directory) -> BTreeMap<String, Plan> {
    let (file, out) = (directory.file("cell.toml"), directory.file("cell"));
    std::fs::write(&file, FILE).unwrap();
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
