//! A running cell: its processes, and what they say. What a drill does to it is in `drilled.rs`.

use super::configs::CellPlan;
use super::error::CellSetupError;
use super::network::{CellNetwork, SERVICE_IP};
use super::node_status::NodeStatus;
use super::process::{CellProcess, Configuration, Launch};
use super::process_event::{Clock, ProcessEvent};
use crate::drill::{CellError, Fault, Reprotection, ServiceAddresses};
use crate::operator::ask;
use escape_link::ClusterAuthority;
use escape_proto::{OperatorReply, OperatorRequest};
use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

/// How long a process may take to answer a question.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// Tries to break a guest outside of its slices, and the time between two.
const INJURIES_TRIED_MAX: u32 = 100;
const INJURY_AGAIN: Duration = Duration::from_millis(10);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// The processes of a cell. All of them end when this is dropped, or with this program.
pub struct LocalCell {
    pub(super) plan: CellPlan,
    // Processes first: they must be gone before their network.
    pub(super) nodes: Vec<Option<CellProcess>>,
    pub(super) edge: CellProcess,
    pub(super) orchestrator: CellProcess,
    pub(super) network: CellNetwork,
    pub(super) authority: ClusterAuthority,
    pub(super) store: OwnedFd,
    pub(super) clock: Clock,
    pub(super) events: Vec<ProcessEvent>,
    /// Nodes that are hurt now.
    pub(super) hurt: Vec<Hurt>,
    /// What was done to the orchestrator, if it is not well.
    pub(super) orchestrator_hurt: Option<OrchestratorHurt>,
    /// When the latest fault was made, or the first of those that last.
    pub(super) fault_at: Option<Instant>,
}

/// A node and what was done to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hurt {
    pub(super) node: u16,
    pub(super) fault: Fault,
}

/// What was done to the orchestrator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OrchestratorHurt {
    Killed,
    Stopped,
}

impl LocalCell {
    /// Makes the network and starts all processes.
    ///
    /// # Errors
    /// What this machine refused, or which process ended.
    pub fn start(plan: CellPlan) -> Result<Self, CellSetupError> {
        let network = CellNetwork::new(plan.nodes, plan.client_addresses())?;
        let authority = ClusterAuthority::new("drill")?;
        let store = nameless_file()?;
        let orchestrator = start_orchestrator(&plan, &authority, &network, &store)?;
        let edge = CellProcess::start(Launch {
            name: "edge".into(),
            part: "edge",
            options: &[],
            config: Configuration::Text(plan.edge(&authority)?),
            namespace: &network.edge,
            descriptors: Vec::new(),
        })?;
        let mut cell = Self {
            nodes: (0..plan.nodes).map(|_| None).collect(),
            plan,
            edge,
            orchestrator,
            network,
            authority,
            store,
            clock: Clock::now(),
            events: Vec::new(),
            hurt: Vec::new(),
            orchestrator_hurt: None,
            fault_at: None,
        };
        for node in 0..cell.plan.nodes {
            cell.start_node(node)?;
        }
        Ok(cell)
    }

    /// Where the service is.
    pub const fn service_addresses(&self) -> ServiceAddresses {
        ServiceAddresses {
            http: std::net::SocketAddr::V4(SocketAddrV4::new(SERVICE_IP, self.plan.http_port)),
            stream: std::net::SocketAddr::V4(SocketAddrV4::new(SERVICE_IP, self.plan.stream_port)),
        }
    }

    /// Asks the orchestrator as an operator does, over a link of its own.
    ///
    /// # Errors
    /// It does not answer.
    pub fn ask_as_operator(&self, request: OperatorRequest) -> Result<OperatorReply, CellSetupError> {
        let config = self.plan.operator(&self.authority)?;
        let asked = self.network.edge.enter(|| ask(&config, request))?;
        asked.map_err(|e| CellSetupError::os("an operator's question")(std::io::Error::other(e)))
    }

    /// The network, to put more clients into it.
    pub const fn network(&self) -> &CellNetwork {
        &self.network
    }

    /// The process of a node, for the kernel's accounts of it.
    ///
    /// # Errors
    /// There is none.
    pub fn process_id(&self, node: u16) -> Result<u32, CellSetupError> {
        let process = self.nodes.get(usize::from(node)).and_then(Option::as_ref);
        process.map(CellProcess::id).ok_or(CellSetupError::NoNode(node))
    }

    pub(super) fn start_node(&mut self, node: u16) -> Result<(), CellSetupError> {
        let config = self.plan.node(&self.authority, &self.network, node)?;
        let port = self.network.nodes.get(usize::from(node)).ok_or(CellSetupError::NoNode(node))?;
        let process = CellProcess::start(Launch {
            name: format!("node {node}"),
            part: "node",
            options: &[],
            config: Configuration::Text(config),
            namespace: &port.namespace,
            descriptors: vec![port.tap.as_fd(), port.mirror.as_fd()],
        })?;
        if let Some(place) = self.nodes.get_mut(usize::from(node)) {
            *place = Some(process);
        }
        Ok(())
    }

    pub(super) fn node(&mut self, node: u16) -> Result<&mut CellProcess, CellSetupError> {
        self.nodes.get_mut(usize::from(node)).and_then(Option::as_mut).ok_or(CellSetupError::NoNode(node))
    }

    /// What a node says of itself.
    ///
    /// # Errors
    /// It is gone or silent.
    pub fn status(&mut self, node: u16) -> Result<NodeStatus, CellSetupError> {
        serde_json::from_value(self.ask(node, "status")?)
            .map_err(|e| CellSetupError::os(format!("status of node {node}"))(std::io::Error::other(e)))
    }

    /// What a node answers to a question on its standard input (`counters`, `stages`).
    ///
    /// # Errors
    /// It is gone or silent.
    pub fn ask(&mut self, node: u16, question: &str) -> Result<serde_json::Value, CellSetupError> {
        let answer = self.node(node)?.ask(question, ANSWER_LIMIT)?;
        serde_json::from_str(&answer)
            .map_err(|e| CellSetupError::os(format!("{question} of node {node}"))(std::io::Error::other(e)))
    }

    /// Everything that the processes count, for whoever looks for a fault.
    pub(super) fn tell_all(&mut self) {
        for node in 0..self.plan.nodes {
            let said = self.node(node).and_then(|n| n.ask("counters", ANSWER_LIMIT));
            eprintln!("[node {node}] {}", said.unwrap_or_else(|e| e.to_string()));
        }
        let said = self.edge.ask("counters", ANSWER_LIMIT);
        eprintln!("[edge] {}", said.unwrap_or_else(|e| e.to_string()));
    }

    /// Has a node break its guest; when that was. Its answer is awaited: it must not be taken for that to a later question.
    pub(super) fn hurt_guest(&mut self, node: u16, how: &str) -> Result<Instant, CellError> {
        for _ in 0..INJURIES_TRIED_MAX {
            let at = Instant::now();
            let answer = self.ask(node, how)?;
            if answer.get("error").is_none() {
                return Ok(at);
            }
            if answer.get("again") != Some(&serde_json::Value::Bool(true)) {
                return Err(CellError::Other(format!("node {node} says {answer}")));
            }
            // Its data thread goes on meanwhile.
            std::thread::sleep(INJURY_AGAIN);
        }
        Err(CellError::Other(format!("node {node} was at work on a slice at each of {INJURIES_TRIED_MAX} tries")))
    }

    /// A fault is made at `at`. What follows from it counts from the first of those that last.
    pub(super) const fn mark_fault(&mut self, at: Instant) {
        if self.hurt.is_empty() {
            self.fault_at = Some(at);
        }
    }

    /// Checks that everything runs that should.
    fn check(&mut self) -> Result<(), CellSetupError> {
        if self.orchestrator_hurt.is_none() {
            self.orchestrator.check()?;
        }
        self.edge.check()?;
        for (n, node) in (0u16..).zip(&mut self.nodes) {
            if let (Some(node), false) = (node, self.hurt.iter().any(|hurt| hurt.node == n)) {
                node.check()?;
            }
        }
        Ok(())
    }

    pub(super) fn take_events(&mut self) {
        for process in [&self.orchestrator, &self.edge] {
            while let Some(line) = process.event() {
                if let Ok(event) = serde_json::from_str(&line) {
                    self.events.push(event);
                }
            }
        }
    }

    /// Waits until every node that is not hurt has a standby for each of its groups.
    pub(super) fn wait_settled(&mut self, limit: Duration) -> Result<(), CellError> {
        let begun = Instant::now();
        loop {
            self.check()?;
            let mut hint = String::new();
            // A node lives on without its guest, and is waited for.
            let away = |hurt: &Hurt| !matches!(hurt.fault, Fault::Guest | Fault::Spin);
            let away: Vec<u16> = self.hurt.iter().filter(|hurt| away(hurt)).map(|hurt| hurt.node).collect();
            let mut owned = 0;
            for node in (0..self.plan.nodes).filter(|node| !away.contains(node)) {
                let status = self.status(node)?;
                owned += status.groups;
                if !status.is_settled() {
                    hint = format!(": node {node} has {status:?}");
                }
            }
            if hint.is_empty() && owned > 0 {
                return Ok(());
            }
            if begun.elapsed() > limit {
                return Err(CellError::TooSlow { what: "protection of every group".into(), limit, hint });
            }
            std::thread::sleep(LOOK);
        }
    }

    /// From the first event of the failover to the last protection.
    pub(super) fn reprotection(&mut self) -> Reprotection {
        self.take_events();
        let since = self.fault_at;
        let after: Vec<&ProcessEvent> =
            self.events.iter().filter(|e| since.is_none_or(|at| self.clock.instant(e.t_us) >= at)).collect();
        let mut raised: BTreeMap<u64, u64> = BTreeMap::new();
        let (mut slices, mut last_us, mut unprotected_us) = (0, 0, 0);
        for event in after {
            let Some(group) = event.number("group") else { continue };
            match event.event.as_str() {
                "epoch-raised" => {
                    raised.entry(group).or_insert(event.t_us);
                }
                "protected" => {
                    slices += event.number("slices").unwrap_or(0);
                    last_us = last_us.max(event.t_us);
                    if let Some(from) = raised.get(&group) {
                        unprotected_us = unprotected_us.max(event.t_us.saturating_sub(*from));
                    }
                }
                _ => {}
            }
        }
        let at = if last_us == 0 { Instant::now() } else { self.clock.instant(last_us) };
        Reprotection { slices, at, unprotected: Duration::from_micros(unprotected_us) }
    }
}

/// Starts an orchestrator on the cell's store.
pub(super) fn start_orchestrator(
    plan: &CellPlan,
    authority: &ClusterAuthority,
    network: &CellNetwork,
    store: &OwnedFd,
) -> Result<CellProcess, CellSetupError> {
    CellProcess::start(Launch {
        name: "orchestrator".into(),
        part: "orchestrator",
        options: &[],
        config: Configuration::Text(plan.orchestrator(authority, store.as_raw_fd())?),
        namespace: &network.orchestrator,
        descriptors: vec![store.as_fd()],
    })
}

/// A real file on a real file system that has no name: the store outlives its process, not this program.
fn nameless_file() -> Result<OwnedFd, CellSetupError> {
    let directory = std::env::temp_dir();
    std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_TMPFILE)
        .mode(0o600)
        .open(&directory)
        .map(OwnedFd::from)
        .map_err(CellSetupError::os(format!("a file without a name in {}", directory.display())))
}
