//! A person's command.

use super::PATIENCE;
use super::running::RunningOrchestrator;
use escape_link::{ClusterAuthority, Link, LinkError, LinkLimits};
use escape_proto::{CellStatus, Hello, Incarnation, OperatorReply, OperatorRequest, PROTOCOL_VERSION, Role};
use mio::{Events, Poll, Token};
use std::time::{Duration, Instant};

pub struct FakeOperator {
    pub link: Link,
    poll: Poll,
    events: Events,
}

impl FakeOperator {
    pub fn connect(authority: &ClusterAuthority, to: &RunningOrchestrator) -> Self {
        let identity = authority.issue(Role::Operator).unwrap().identity().unwrap();
        let nobody = Incarnation(0);
        let from = Role::Operator;
        let hello =
            Hello { version: PROTOCOL_VERSION, cluster: [0; 16], from, inc: nobody, expect: nobody, channel: 0 };
        let now = Instant::now();
        let mut link =
            Link::connect(to.links, &identity, Role::Orchestrator, hello, LinkLimits::default(), now).unwrap();
        let poll = Poll::new().unwrap();
        link.register(poll.registry(), Token(0)).unwrap();
        let mut operator = Self { link, poll, events: Events::with_capacity(4) };
        while !operator.link.is_open() {
            assert!(now.elapsed() < PATIENCE);
            operator.turn().unwrap();
        }
        operator
    }

    /// Sends what the socket takes and looks for what came.
    pub fn turn(&mut self) -> Result<(), LinkError> {
        self.link.flush()?;
        self.poll.poll(&mut self.events, Some(Duration::from_millis(5))).unwrap();
        self.events.iter().try_for_each(|event| self.link.on_event(event))
    }

    /// Does the other end drop this link in that time? A link tells its end to whoever asks for its messages.
    pub fn ends_within(&mut self, patience: Duration) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < patience {
            if self.turn().is_err() || self.link.recv().is_err() {
                return true;
            }
        }
        false
    }

    pub fn status(&mut self) -> CellStatus {
        self.link.send(&OperatorRequest::Status).unwrap();
        let begun = Instant::now();
        loop {
            assert!(begun.elapsed() < PATIENCE, "no answer");
            self.turn().unwrap();
            if let Some(OperatorReply::Status(status)) = self.link.next_message().unwrap() {
                return status;
            }
        }
    }
}
