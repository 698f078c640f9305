//! What a drill asks of a cell and does to it, for the cell of this machine.

use super::error::CellSetupError;
use super::local_cell::{ANSWER_LIMIT, Hurt, LocalCell, OrchestratorHurt, start_orchestrator};
use super::network::{SERVICE_IP, SERVICE_MAC};
use super::orchestrator_status::OrchestratorStatus;
use crate::drill::{Cell, CellError, Cut, Fault, Mishap, Moment, Reprotection, ServiceAddresses, TimelineEvent};
use crate::load::Enter;
use escape_fabric::fabric::{Fabric, FabricConfig};
use escape_fabric::netns::enter_fd;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

/// How long an orchestrator may take to end that was told to end itself at the next node's death.
const ARMED_END_LIMIT: Duration = Duration::from_secs(10);

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
        let mut at = Instant::now();
        match fault {
            Fault::Kill => self.node(node)?.signal(libc::SIGKILL)?,
            Fault::Stop => self.node(node)?.signal(libc::SIGSTOP)?,
            Fault::Link => self.network.set_links(node, false)?,
            Fault::Guest => at = self.hurt_guest(node, "fault crash")?,
            Fault::Spin => at = self.hurt_guest(node, "fault spin")?,
        }
        self.mark_fault(at);
        self.hurt.push(Hurt { node, fault });
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
            Fault::Stop => self.node(node)?.signal(libc::SIGCONT)?,
            Fault::Link => self.network.set_links(node, true)?,
            // Its machine has started it again.
            Fault::Guest | Fault::Spin => {}
        }
        self.hurt.retain(|hurt| hurt.node != node);
        Ok(())
    }

    fn nodes(&self) -> u16 {
        self.plan.nodes
    }

    fn standbys_of(&mut self, node: u16) -> Result<Vec<u16>, CellError> {
        let answer = self.orchestrator.ask("status", ANSWER_LIMIT)?;
        let status: OrchestratorStatus = serde_json::from_str(&answer)
            .map_err(|e| CellSetupError::os("status of the orchestrator")(std::io::Error::other(e)))?;
        Ok(status.standbys_of(node))
    }

    fn arm_orchestrator(&mut self, moment: Moment) -> Result<(), CellError> {
        let answer = self.orchestrator.ask(&format!("end {}", moment.name()), ANSWER_LIMIT)?;
        if answer.contains("error") {
            return Err(CellError::Other(format!("the orchestrator says {answer}")));
        }
        Ok(())
    }

    fn kill_orchestrator(&mut self, moment: Moment) -> Result<Instant, CellError> {
        self.orchestrator_hurt = Some(OrchestratorHurt::Killed);
        let begun = Instant::now();
        self.mark_fault(begun);
        if moment == Moment::Now {
            self.orchestrator.signal(libc::SIGKILL)?;
            return Ok(begun);
        }
        while self.orchestrator.is_running() {
            if begun.elapsed() > ARMED_END_LIMIT {
                let what = format!("the orchestrator's end {}", moment.name());
                return Err(CellError::TooSlow { what, limit: ARMED_END_LIMIT, hint: String::new() });
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(begun)
    }

    fn stop_orchestrator(&mut self) -> Result<Instant, CellError> {
        let at = Instant::now();
        self.orchestrator.signal(libc::SIGSTOP)?;
        self.orchestrator_hurt = Some(OrchestratorHurt::Stopped);
        self.mark_fault(at);
        Ok(at)
    }

    fn heal_orchestrator(&mut self) -> Result<(), CellError> {
        match self.orchestrator_hurt {
            Some(OrchestratorHurt::Killed) => {
                self.orchestrator.kill(); // Waits for its end: it must have let go of the store.
                self.take_events();
                self.orchestrator = start_orchestrator(&self.plan, &self.authority, &self.network, &self.store)?;
            }
            Some(OrchestratorHurt::Stopped) => self.orchestrator.signal(libc::SIGCONT)?,
            None => {}
        }
        self.orchestrator_hurt = None;
        Ok(())
    }

    fn cut(&mut self, cut: Cut) -> Result<Instant, CellError> {
        let at = Instant::now();
        self.network.set_cut(cut, true)?;
        self.mark_fault(at);
        Ok(at)
    }

    fn mend(&mut self, cut: Cut) -> Result<(), CellError> {
        Ok(self.network.set_cut(cut, false)?)
    }

    fn mishaps(&mut self) -> Vec<Mishap> {
        self.take_events();
        self.events.iter().filter_map(|e| e.to_mishap(&self.clock)).collect()
    }

    fn groups_of_clients(&mut self) -> Result<Vec<(SocketAddr, u64)>, CellError> {
        let table = FabricConfig::new("", SERVICE_IP, SERVICE_MAC, &[]).table;
        let flows = Fabric::flows_in_force(&self.network.edge, &table).map_err(CellSetupError::from)?;
        Ok(flows.into_iter().map(|(flow, group)| (SocketAddr::V4(flow.client), u64::from(group))).collect())
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

    fn tell_of_client(&mut self, client: SocketAddr) -> Vec<String> {
        let mut told = Vec::new();
        for node in 0..self.plan.nodes {
            let said = self.node(node).and_then(|n| n.ask(&format!("flow {client}"), ANSWER_LIMIT));
            told.push(format!("node {node}: {}", said.unwrap_or_else(|error| error.to_string())));
        }
        let table = FabricConfig::new("", SERVICE_IP, SERVICE_MAC, &[]).table;
        let flows = Fabric::flows_in_force(&self.network.edge, &table).unwrap_or_default();
        let groups: Vec<_> = flows.iter().filter(|(f, _)| SocketAddr::V4(f.client) == client).map(|(_, g)| g).collect();
        told.push(format!("edge: its flows have the groups {groups:?}"));
        told
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
