//! One question over a link of its own.

use super::error::OperatorError;
use crate::config::OperatorConfig;
use escape_link::{Link, LinkLimits};
use escape_proto::{Hello, Incarnation, OperatorReply, OperatorRequest, PROTOCOL_VERSION, Role};
use mio::{Events, Poll, Token};
use std::time::{Duration, Instant};

/// How long the answer is waited for, handshake included.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Between two looks at the time.
const LOOK: Duration = Duration::from_millis(100);

/// Asks the orchestrator.
///
/// # Errors
/// [`OperatorError`]: the identity is unusable, it does not answer in time, or it refuses.
pub fn ask(config: &OperatorConfig, request: OperatorRequest) -> Result<OperatorReply, OperatorError> {
    let identity = config.secrets.identity()?;
    let from = identity.role();
    if from != Role::Operator {
        return Err(OperatorError::WrongSecrets { found: escape_link::pki::role_label(from) });
    }
    let nobody = Incarnation(0);
    let hello = Hello { version: PROTOCOL_VERSION, cluster: [0; 16], from, inc: nobody, expect: nobody, channel: 0 };
    let begun = Instant::now();
    let limits = LinkLimits::default();
    let mut link = Link::connect(config.orchestrator, &identity, Role::Orchestrator, hello, limits, begun)?;
    let os = |what| move |source| OperatorError::Os { what, source };
    let mut poll = Poll::new().map_err(os("epoll"))?;
    link.register(poll.registry(), Token(0)).map_err(os("registration of a link"))?;
    let mut events = Events::with_capacity(4);
    let mut asked = false;
    while begun.elapsed() < ANSWER_LIMIT {
        match poll.poll(&mut events, Some(LOOK)) {
            Err(e) if e.kind() != std::io::ErrorKind::Interrupted => return Err(os("epoll")(e)),
            _ => {}
        }
        for event in &events {
            link.on_event(event)?;
        }
        if link.is_open() && !asked {
            link.send(&request)?;
            asked = true;
        }
        if let Some(reply) = link.next_message()? {
            return Ok(reply);
        }
        link.flush()?;
    }
    Err(OperatorError::Silent { orchestrator: config.orchestrator, limit: ANSWER_LIMIT })
}
