//! The fake service as a cell.

use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use escape::drill::{Cell, CellError, EventKind, Fault, Noticed, Reprotection, ServiceAddresses, TimelineEvent};
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
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            service: Misbehaviour::None,
            outage: Duration::from_millis(25),
            zombie_frames: 0,
            reprotects: true,
            moves: true,
        }
    }
}

pub struct FakeCell {
    behaviour: Behaviour,
    service: FakeService,
    events: Vec<TimelineEvent>,
    healed: u32,
    pub shut_down: bool,
}

impl FakeCell {
    pub fn start(behaviour: Behaviour) -> Self {
        let service = FakeService::start(behaviour.service, behaviour.moves);
        Self { behaviour, service, events: Vec::new(), healed: 0, shut_down: false }
    }
}

impl Cell for FakeCell {
    fn wait_ready(&mut self, _: Duration) -> Result<(), CellError> {
        Ok(())
    }

    fn held_frames(&mut self, _: u16) -> u64 {
        3
    }

    fn inject(&mut self, node: u16, _: Fault) -> Result<Instant, CellError> {
        let at = Instant::now();
        let shared = &self.service.shared;
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

    fn heal(&mut self, _: u16, _: Fault) -> Result<(), CellError> {
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
