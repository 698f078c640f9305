//! A running cell, and the faults that can be made in it.

use super::configs::CellPlan;
use super::error::CellSetupError;
use super::network::{CellNetwork, SERVICE_IP};
use super::node_status::NodeStatus;
use super::process::{CellProcess, Configuration, Launch};
use super::process_event::{Clock, ProcessEvent};
use crate::drill::{Cell, CellError, Fault, Reprotection, ServiceAddresses, TimelineEvent};
use crate::load::Enter;
use escape_fabric::netns::enter_fd;
use escape_link::ClusterAuthority;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

/// How long a process may take to answer a question.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(10);
/// How long a stopped node stays stopped at least.
const STOP_MIN: Duration = Duration::from_secs(3);

/// The processes of a cell. All of them end when this is dropped, or with this program.
pub struct LocalCell {
    plan: CellPlan,
    // Processes first: they must be gone before their network.
    nodes: Vec<Option<CellProcess>>,
    edge: CellProcess,
    orchestrator: CellProcess,
    network: CellNetwork,
    authority: ClusterAuthority,
    store: OwnedFd,
    clock: Clock,
    events: Vec<ProcessEvent>,
    hurt: Option<(u16, Fault, Instant)>,
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
        let orchestrator = CellProcess::start(Launch {
            name: "orchestrator".into(),
            part: "orchestrator",
            options: &[],
            config: Configuration::Text(plan.orchestrator(&authority, store.as_raw_fd())?),
            namespace: &network.orchestrator,
            descriptors: vec![store.as_fd()],
        })?;
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
            hurt: None,
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

    /// The network, to put more clients into it.
    pub const fn network(&self) -> &CellNetwork {
        &self.network
    }

    fn start_node(&mut self, node: u16) -> Result<(), CellSetupError> {
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

    fn node(&mut self, node: u16) -> Result<&mut CellProcess, CellSetupError> {
        self.nodes.get_mut(usize::from(node)).and_then(Option::as_mut).ok_or(CellSetupError::NoNode(node))
    }

    /// Id of a node's process; `None` if it does not run.
    pub fn process_id(&self, node: u16) -> Option<u32> {
        self.nodes.get(usize::from(node))?.as_ref().map(CellProcess::id)
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
    fn tell_all(&mut self) {
        for node in 0..self.plan.nodes {
            let said = self.node(node).and_then(|n| n.ask("counters", ANSWER_LIMIT));
            eprintln!("[node {node}] {}", said.unwrap_or_else(|e| e.to_string()));
        }
        let said = self.edge.ask("counters", ANSWER_LIMIT);
        eprintln!("[edge] {}", said.unwrap_or_else(|e| e.to_string()));
    }

    /// Checks that everything runs that should.
    fn check(&mut self) -> Result<(), CellSetupError> {
        self.orchestrator.check()?;
        self.edge.check()?;
        let hurt = self.hurt.map(|(node, ..)| node);
        for (n, node) in (0u16..).zip(&mut self.nodes) {
            if let (Some(node), false) = (node, hurt == Some(n)) {
                node.check()?;
            }
        }
        Ok(())
    }

    fn take_events(&mut self) {
        for process in [&self.orchestrator, &self.edge] {
            while let Some(line) = process.event() {
                if let Ok(event) = serde_json::from_str(&line) {
                    self.events.push(event);
                }
            }
        }
    }

    /// Waits until every node that is not hurt has a standby for each of its groups.
    fn wait_settled(&mut self, limit: Duration) -> Result<(), CellError> {
        let begun = Instant::now();
        loop {
            self.check()?;
            let mut hint = String::new();
            let hurt = self.hurt.filter(|(_, f, _)| !matches!(f, Fault::Guest | Fault::Spin)).map(|(node, ..)| node);
            let mut owned = 0;
            for node in (0..self.plan.nodes).filter(|n| Some(*n) != hurt) {
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
    fn reprotection(&mut self) -> Reprotection {
        self.take_events();
        let since = self.hurt.map(|(.., at)| at);
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

impl Cell for LocalCell {
    fn wait_ready(&mut self, limit: Duration) -> Result<(), CellError> {
        self.wait_settled(limit)
    }

    fn held_frames(&mut self, node: u16) -> u64 {
        let Ok(process) = self.node(node) else { return 0 };
        let Ok(answer) = process.ask("held", ANSWER_LIMIT) else { return 0 };
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap_or_default();
        answer.get("held").and_then(serde_json::Value::as_u64).unwrap_or(0)
    }

    fn inject(&mut self, node: u16, fault: Fault) -> Result<Instant, CellError> {
        self.take_events();
        let at = Instant::now();
        match fault {
            Fault::Kill => self.node(node)?.signal(libc::SIGKILL)?,
            Fault::Stop => self.node(node)?.signal(libc::SIGSTOP)?,
            Fault::Link => self.network.set_links(node, false)?,
            Fault::Guest => self.node(node)?.tell("fault crash")?,
            Fault::Spin => self.node(node)?.tell("fault spin")?,
        }
        self.hurt = Some((node, fault, at));
        Ok(at)
    }

    fn heal(&mut self, node: u16, fault: Fault) -> Result<(), CellError> {
        match fault {
            Fault::Kill => {
                if let Some(place) = self.nodes.get_mut(usize::from(node)) {
                    *place = None; // Waits for its end.
                }
                self.start_node(node)?;
            }
            Fault::Stop => {
                if let Some((.., at)) = self.hurt {
                    std::thread::sleep(STOP_MIN.saturating_sub(at.elapsed()));
                }
                self.node(node)?.signal(libc::SIGCONT)?;
            }
            Fault::Link => self.network.set_links(node, true)?,
            Fault::Guest | Fault::Spin => {
                // The answer to the fault itself.
                let _ = self.node(node)?.answer(ANSWER_LIMIT);
            }
        }
        self.hurt = None;
        Ok(())
    }

    fn timeline(&mut self) -> Vec<TimelineEvent> {
        self.take_events();
        self.events.iter().filter_map(|e| e.to_timeline(&self.clock)).collect()
    }

    fn zombie_frames(&mut self) -> u64 {
        let Ok(answer) = self.edge.ask("counters", ANSWER_LIMIT) else { return 0 };
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap_or_default();
        let nodes = answer.get("nodes").and_then(serde_json::Value::as_object);
        let passed = |node: &serde_json::Value| node.get("passed_after_deposed").and_then(serde_json::Value::as_u64);
        nodes.map_or(0, |nodes| nodes.values().filter_map(passed).sum())
    }

    fn early_frames(&mut self) -> u64 {
        (0..self.plan.nodes).filter_map(|n| self.status(n).ok()).map(|status| status.metrics.before_gate).sum()
    }

    fn wait_reprotected(&mut self, limit: Duration) -> Result<Reprotection, CellError> {
        self.wait_settled(limit)?;
        Ok(self.reprotection())
    }

    fn client_namespace(&self) -> Enter {
        match self.network.clients.try_clone() {
            Ok(namespace) => Box::new(move || enter_fd(namespace.as_fd().as_raw_fd())),
            Err(error) => Box::new(move || Err(std::io::Error::other(error))),
        }
    }

    fn client_addresses(&self) -> Vec<Ipv4Addr> {
        self.network.client_addresses.clone()
    }

    fn service(&self) -> ServiceAddresses {
        self.service_addresses()
    }

    fn shutdown(&mut self) {
        if std::env::var_os("ESCAPE_LOG").is_some() {
            self.tell_all();
        }
        for node in &mut self.nodes {
            *node = None;
        }
        self.edge.kill();
        self.orchestrator.kill();
        let _ = self.store.as_fd();
    }
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
