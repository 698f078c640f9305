//! A client that may have more than the restored kernel can say it has sent.
//!
//! What a slice has written and its client is not known to have was sent by another kernel, perhaps, and the client may hold all of it. A
//! kernel that counts it as unsent takes no notice of acknowledgements beyond what it has sent itself; if its window or its congestion
//! window keeps it from sending as much as the client holds, nothing moves again. A kernel that counts it as sent waits for its
//! retransmission timer, seconds. So where it is more than goes out at once, the client is asked first: the kernel counts all of it as sent,
//! says a segment below the window, which the client must answer with what it has and what it takes (RFC 9293, section 3.10.7.4), and the
//! connection is made once more, with the rest as unsent. (TCP-FAILOVER, section 3: "probe first".)

use super::agent::Agent;
use super::places::Stage;
use super::route;
use crate::keeping::Name;
use escape_capsule::SliceKey;
use escape_process::{ProcessError, TcpState};
use escape_tcp::{Frozen, TcpCapsule, TcpError};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How often connections whose clients are asked are looked at.
pub const ASK_LOOK_EVERY: Duration = Duration::from_millis(1);
/// A client without an answer is asked again after this.
const AGAIN_AFTER: Duration = Duration::from_millis(200);
/// A client that does not answer by then is served as if it had; its kernel's timer does the rest.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Answers that are waited for. The first segment may be one that the mirror kept, from before the client had all that was under way to it;
/// the second comes a round trip later.
const ANSWERS: u8 = 2;
/// Cause of a slice's end that [`escape_abi::GuestMessage::Poisoned`] tells: its connection could not be made once more.
const NOT_RESTORED: u32 = 258;

/// A connection whose client was asked.
#[derive(Debug)]
pub struct Asking {
    socket: OwnedFd,
    /// Segments that have come by the last question.
    heard: u32,
    answers: u8,
    begun: Instant,
    asked: Instant,
}

/// Whether a restored kernel sends all of this at once.
pub fn goes_out_at_once(tcp: &TcpState) -> bool {
    let at_once = route::FIRST_WINDOW.saturating_mul(tcp.numbers.mss.into()).min(tcp.window);
    tcp.unacknowledged() <= usize::try_from(at_once).unwrap_or(usize::MAX)
}

impl Asking {
    /// Restores the connection and asks.
    ///
    /// # Errors
    /// The kernel does not take it.
    pub fn begin(capsule: &TcpCapsule) -> Result<Self, TcpError> {
        let socket = capsule.restore_and_ask()?;
        let now = Instant::now();
        Ok(Self { socket, heard: 0, answers: 0, begun: now, asked: now })
    }

    /// One that a former agent has asked: it is asked again.
    pub fn again(socket: OwnedFd) -> Self {
        let heard = escape_tcp::segments_heard(socket.as_fd()).unwrap_or(0);
        let (begun, asked) = (Instant::now(), Instant::now().checked_sub(AGAIN_AFTER));
        Self { socket, heard, answers: 0, begun, asked: asked.unwrap_or(begun) }
    }

    /// The connection.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether the client has told all that is wanted, or will not.
    fn is_settled(&mut self) -> bool {
        let now = Instant::now();
        let heard = escape_tcp::segments_heard(self.socket.as_fd()).unwrap_or(self.heard);
        if heard > self.heard {
            self.answers += 1;
        } else if now.duration_since(self.asked) < AGAIN_AFTER {
            return false;
        }
        if self.answers >= ANSWERS || now.duration_since(self.begun) >= ANSWER_MAX {
            return true;
        }
        (self.heard, self.asked) = (heard, now);
        escape_tcp::ask_again(self.socket.as_fd()).is_err()
    }

    /// The connection made once more: what the client does not have goes out at once. A connection that cannot be taken out, because its
    /// client has ended it meanwhile, stays as it is; an error: it could not be made again.
    fn settle(self) -> Result<OwnedFd, TcpError> {
        if self.answers < ANSWERS {
            return Ok(self.socket);
        }
        match Frozen::freeze(self.socket) {
            Ok(frozen) => {
                let mut capsule = frozen.close();
                capsule.send_all_again();
                capsule.restore()
            }
            Err((socket, _)) => Ok(socket),
        }
    }
}

impl Agent {
    /// Looks at all connections whose clients were asked.
    pub fn look_at_asking(&mut self) {
        for key in self.asking.clone() {
            self.go_on_asking(key);
        }
        let Self { places, asking, .. } = self;
        asking.retain(|key| places.get_mut(*key).is_some_and(|place| matches!(place.stage, Stage::Asking { .. })));
    }

    /// Whether there are any.
    pub fn has_asking(&self) -> bool {
        !self.asking.is_empty()
    }

    fn go_on_asking(&mut self, key: SliceKey) {
        let Some(place) = self.places.get_mut(key) else { return };
        let Stage::Asking { asking } = &mut place.stage else { return };
        if !asking.is_settled() {
            return;
        }
        let Some(Stage::Asking { asking }) = self.places.take(key) else { return };
        // It is made once more at the same address: no second descriptor may be left of the first.
        self.kept.forget_now(Name::Connection(key.slot));
        let served = asking.settle().map_err(ProcessError::from).and_then(|socket| self.serve_restored(key, socket));
        if let Err(error) = served {
            eprintln!("escape-agent: slice {key} cannot go on: {error}");
            self.give_up(key, NOT_RESTORED);
        }
    }
}
