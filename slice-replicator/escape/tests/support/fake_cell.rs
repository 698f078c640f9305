//! The fake service as a cell.

use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use std::net::SocketAddr;

use escape::drill::{
    Cell, CellError, Cut, EventKind, Fault, Mishap, MishapKind, Moment, Noticed, Reprotection, ServiceAddresses,
    TimelineEvent,
};
use escape::load::Enter;

use super::fake_service::FakeService;
use super::misbehaviour::Misbehaviour;

/// What the cell does wrong beside the service.
#[derive(Clone, Copy, Debug)]
pub struct Behaviour {
    pub service: Misbehaviour,
    /// From the fault until the failed node's connections are served again.
    pub outage: Duration,
    pub zombie_frames: u64,
    pub reprotects: bool,
    /// Whether its connections say that they moved.
    pub moves: bool,
    /// Whether it reports the failed node's groups as lost, while it does not serve their sessions any more.
    pub loses: bool,
    /// The failed node's groups are claimed by a node that remembers them.
    pub claims: bool,
    /// A node that is declared dead with every fault, without one of its own.
    pub false_death: Option<u16>,
    /// How long nothing is answered while the orchestrator is away or a link is cut.
    pub stall: Duration,
    /// Whether groups change hands while the orchestrator is away or a link is cut.
    pub hands_over: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            service: Misbehaviour::None,
            outage: Duration::from_millis(25),
            zombie_frames: 0,
            reprotects: true,
            moves: true,
            loses: false,
            claims: false,
            false_death: None,
            stall: Duration::ZERO,
            hands_over: false,
        }
    }
}

pub struct FakeCell {
    behaviour: Behaviour,
    service: FakeService,
    events: Vec<TimelineEvent>,
    mishaps: Vec<Mishap>,
    /// Faults and healings, in order.
    pub done: Vec<String>,
    healed: u32,
    pub shut_down: bool,
}

impl FakeCell {
    pub fn start(behaviour: Behaviour) -> Self {
        let service = FakeService::start(behaviour.service, behaviour.moves);
        Self {
            behaviour,
            service,
            events: Vec::new(),
            mishaps: Vec::new(),
            done: Vec::new(),
            healed: 0,
            shut_down: false,
        }
    }
}

impl FakeCell {
    /// What a fault that takes no node does to the clients.
    fn disturb(&mut self) -> Instant {
        let at = Instant::now();
        *self.service.shared.stall_until.lock().unwrap() = at + self.behaviour.stall;
        if self.behaviour.hands_over {
            let (event, by) = (EventKind::EpochRaised, Noticed::Unknown);
            self.events.push(TimelineEvent { at, event, node: 9, by });
        }
        at
    }
}

impl Cell for FakeCell {
    fn wait_ready(&mut self, _: Duration) -> Result<(), CellError> {
        Ok(())
    }

    fn held_frames(&mut self, _: u16) -> u64 {
        3
    }

    fn inject(&mut self, node: u16, fault: Fault) -> Result<Instant, CellError> {
        let at = Instant::now();
        self.done.push(format!("{fault} {node}"));
        self.mishaps.push(Mishap { at, what: MishapKind::Dead(node) });
        self.mishaps.extend(self.behaviour.false_death.map(|node| Mishap { at, what: MishapKind::Dead(node) }));
        let shared = &self.service.shared;
        if self.behaviour.loses {
            shared.lost.store(node, SeqCst);
            self.mishaps.push(Mishap { at, what: MishapKind::Lost(u64::from(node)) });
        }
        if self.behaviour.claims {
            self.mishaps.push(Mishap { at, what: MishapKind::Claimed(u64::from(node)) });
        }
        *shared.outage_until.lock().unwrap() = at + self.behaviour.outage;
        shared.failed.store(node, SeqCst);
        shared.misbehave_now.store(true, SeqCst);
        let (suspected, raised) = (at + Duration::from_millis(10), at + Duration::from_millis(12));
        for by in [Noticed::Orchestrator, Noticed::Standby(9)] {
            self.events.push(TimelineEvent { at: suspected, event: EventKind::Suspected, node, by });
        }
        let by = Noticed::Unknown;
        self.events.push(TimelineEvent { at: raised, event: EventKind::EpochRaised, node: 9, by });
        Ok(at)
    }

    fn nodes(&self) -> u16 {
        4 // Numbers 1 to 3 serve.
    }

    fn standbys_of(&mut self, node: u16) -> Result<Vec<u16>, CellError> {
        Ok(vec![node % 3 + 1])
    }

    fn arm_orchestrator(&mut self, moment: Moment) -> Result<(), CellError> {
        self.done.push(format!("arm {}", moment.name()));
        Ok(())
    }

    fn kill_orchestrator(&mut self, moment: Moment) -> Result<Instant, CellError> {
        self.done.push(format!("kill orchestrator {}", moment.name()));
        Ok(self.disturb())
    }

    fn stop_orchestrator(&mut self) -> Result<Instant, CellError> {
        self.done.push("stop orchestrator".into());
        Ok(self.disturb())
    }

    fn heal_orchestrator(&mut self) -> Result<(), CellError> {
        self.done.push("heal orchestrator".into());
        Ok(())
    }

    fn cut(&mut self, cut: Cut) -> Result<Instant, CellError> {
        self.done.push(format!("cut {} {} {}", cut.from, cut.to, cut.both));
        Ok(self.disturb())
    }

    fn mend(&mut self, _: Cut) -> Result<(), CellError> {
        self.done.push("mend".into());
        Ok(())
    }

    fn mishaps(&mut self) -> Vec<Mishap> {
        self.mishaps.clone()
    }

    fn groups_of_clients(&mut self) -> Result<Vec<(SocketAddr, u64)>, CellError> {
        let clients = self.service.shared.clients.lock().unwrap();
        Ok(clients.iter().map(|(client, node)| (*client, u64::from(*node))).collect())
    }

    fn heal(&mut self, node: u16, _: Fault) -> Result<(), CellError> {
        self.done.push(format!("heal {node}"));
        self.healed += 1;
        Ok(())
    }

    fn timeline(&mut self) -> Vec<TimelineEvent> {
        self.events.clone()
    }

    fn zombie_frames(&mut self) -> u64 {
        if self.healed > 0 { self.behaviour.zombie_frames } else { 0 }
    }

    fn wait_reprotected(&mut self, limit: Duration) -> Result<Reprotection, CellError> {
        if self.behaviour.reprotects {
            return Ok(Reprotection { slices: 20, at: Instant::now(), unprotected: Duration::from_millis(40) });
        }
        Err(CellError::TooSlow { what: "re-protection".into(), limit, hint: String::new() })
    }

    fn client_namespace(&self) -> Enter {
        Box::new(|| Ok(()))
    }

    fn service(&self) -> ServiceAddresses {
        ServiceAddresses { http: self.service.http, stream: self.service.stream }
    }

    fn shutdown(&mut self) {
        self.service.stop();
        self.shut_down = true;
    }
}
