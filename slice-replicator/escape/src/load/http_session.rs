//! One HTTP session as a state machine over bytes: no socket and no clock of its own.
//!
//! It sends on its schedule whether or not replies came (pipelining), and checks every byte that comes back against
//! its own computation. After the first violation the session is given up: what follows could only repeat it.

use std::collections::VecDeque;

use super::body_check::BodyCheck;
use super::chain::{self, Hash, Link};
use super::expected::{Expected, ExpectedBody};
use super::reply::{ReplyHead, ReplyParser, ReplyStep};
use super::request::Request;
use super::script::Script;
use super::session_facts::SessionFacts;
use super::violation::Violation;

/// Most requests of a session without their reply. When it is full, a request that is due is not sent and counted as
/// held back: the run then says that it did not offer its load.
pub const PENDING_MAX: usize = 256;

/// A request whose reply was right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// When the schedule wanted it sent.
    pub scheduled_us: u64,
    /// When it was handed to the kernel.
    pub sent_us: u64,
    /// When the first byte of its reply came.
    pub first_byte_us: u64,
    /// When its reply was complete.
    pub done_us: u64,
}

#[derive(Debug)]
struct Pending {
    scheduled_us: u64,
    sent_us: u64,
    expected: Expected,
    link: Link,
    /// The chain after this request.
    chain: Hash,
}

/// The reply that is being received.
#[derive(Debug)]
struct Receiving {
    first_byte_us: u64,
    body: BodyCheck,
}

/// One session of the generator.
#[derive(Debug)]
pub struct HttpSession {
    script: Script,
    /// Unanswered requests in order; at most [`PENDING_MAX`].
    pending: VecDeque<Pending>,
    /// Chain after the last request issued, and after the last one answered.
    issued_chain: Hash,
    answered_chain: Hash,
    answered: u64,
    /// Token of the last reply.
    token: Option<u64>,
    parser: ReplyParser,
    receiving: Receiving,
    facts: Option<SessionFacts>,
}

impl HttpSession {
    /// Session `index` of the run `seed`.
    pub fn new(seed: u64, index: u64) -> Self {
        Self {
            script: Script::new(seed, index),
            pending: VecDeque::new(),
            issued_chain: chain::START,
            answered_chain: chain::START,
            answered: 0,
            token: None,
            parser: ReplyParser::new(),
            receiving: Receiving { first_byte_us: 0, body: BodyCheck::default() },
            facts: None,
        }
    }

    /// Requests without their reply.
    pub fn in_flight(&self) -> usize {
        self.pending.len()
    }

    /// When the requests without reply were sent, oldest first.
    pub fn sent_times_us(&self) -> impl Iterator<Item = u64> + '_ {
        self.pending.iter().map(|pending| pending.sent_us)
    }

    /// What the latest `GET /session` said.
    pub fn facts(&self) -> Option<&SessionFacts> {
        self.facts.as_ref()
    }

    /// Forgets the latest facts: the next answer is a new one.
    pub fn forget_facts(&mut self) {
        self.facts = None;
    }

    /// Appends the next request to `out`: `wanted`, or the script's next. False: [`PENDING_MAX`] is reached.
    pub fn issue(&mut self, wanted: Option<Request>, scheduled_us: u64, now_us: u64, out: &mut Vec<u8>) -> bool {
        if self.pending.len() >= PENDING_MAX {
            return false;
        }
        let (request, expected) = match wanted {
            Some(request) => {
                let expected = self.script.expect(&request);
                (request, expected)
            }
            None => self.script.next(),
        };
        let link = request.encode(out);
        self.issued_chain = link.after(&self.issued_chain);
        let chain = self.issued_chain;
        self.pending.push_back(Pending { scheduled_us, sent_us: now_us, expected, link, chain });
        true
    }

    /// Takes received bytes; `done` is called for each reply that is complete and right.
    pub fn receive(
        &mut self,
        mut bytes: &[u8],
        now_us: u64,
        done: &mut impl FnMut(Completion),
    ) -> Result<(), Violation> {
        loop {
            if !self.parser.is_inside_a_reply() && !bytes.is_empty() {
                self.receiving.first_byte_us = now_us;
            }
            let step = self.parser.step(&mut bytes);
            match step.map_err(|error| Violation::WrongBytes { count: 1, how: error.to_string() })? {
                ReplyStep::NeedMore => return Ok(()),
                ReplyStep::Head(head) => {
                    self.check_head(&head)?;
                    self.token = head.token;
                }
                ReplyStep::Body(body) => {
                    if let Some(pending) = self.pending.front() {
                        self.receiving.body.feed(&pending.expected.body, body);
                    }
                }
                ReplyStep::End => done(self.finish_reply(now_us)?),
            }
        }
    }

    fn check_head(&self, head: &ReplyHead) -> Result<(), Violation> {
        let number = self.answered + 1;
        let Some(pending) = self.pending.front() else {
            let how = format!("a reply (X-Requests {}) to no request", head.requests);
            return Err(Violation::Duplicated { count: 1, how });
        };
        if head.requests != number || head.chain != pending.chain {
            return Err(self.explain(head, number));
        }
        if let (Some(seen), Some(remembered)) = (self.token, head.previous_token)
            && seen != remembered
        {
            // The request before was executed twice: what its first reply revealed was lost, and made again otherwise.
            let how = format!("the state behind reply {} was lost after the reply was seen", number - 1);
            return Err(Violation::Lost { count: 1, how });
        }
        if !pending.expected.status.accepts(head.status) {
            let how = format!("request {number}: status {}, expected {:?}", head.status, pending.expected.status);
            return Err(Violation::WrongBytes { count: 1, how });
        }
        BodyCheck::check_length(&pending.expected.body, head.length)
    }

    /// Names what a reply with an unexpected number or chain shows.
    fn explain(&self, head: &ReplyHead, number: u64) -> Violation {
        let got = head.requests;
        if got < number {
            if head.chain == self.answered_chain {
                let how = format!("request {got} was answered again");
                return Violation::Duplicated { count: 1, how };
            }
            let how = format!("reply {number} says that the session had {got} requests: answered ones are forgotten");
            return Violation::Lost { count: number - got, how };
        }
        if got > number {
            let ahead = usize::try_from(got - number).unwrap_or(usize::MAX);
            if self.pending.get(ahead).is_some_and(|later| later.chain == head.chain) {
                let how = format!("the reply to request {got} came before that to request {number}");
                return Violation::Reordered { count: 1, how };
            }
            let how = format!("reply {number} says that the session had {got} requests");
            return Violation::Duplicated { count: got - number, how };
        }
        let skipped_to = self.pending.iter().skip(1).find(|later| later.link.after(&self.answered_chain) == head.chain);
        if skipped_to.is_some() {
            let how = format!("request {number} never entered the session, a later one did");
            return Violation::Lost { count: 1, how };
        }
        Violation::WrongBytes { count: 1, how: format!("X-Chain of request {number} differs") }
    }

    /// Ends the reply; the request leaves the queue only if all of it was right.
    fn finish_reply(&mut self, now_us: u64) -> Result<Completion, Violation> {
        let number = self.answered + 1;
        // A reply ends only after its head was checked against the front of the queue, so there is one.
        let Some(pending) = self.pending.front() else {
            return Err(Violation::Duplicated { count: 1, how: "a reply to no request".into() });
        };
        let (wrong, text) = self.receiving.body.finish(&pending.expected.body);
        if wrong > 0 {
            return Err(Violation::WrongBytes { count: wrong, how: format!("in the body of reply {number}") });
        }
        if let ExpectedBody::SessionFacts { counter } = pending.expected.body {
            let facts = SessionFacts::parse(&text).and_then(|facts| facts.check(number, counter));
            self.facts = Some(facts.map_err(|how| Violation::WrongBytes { count: 1, how })?);
        }
        self.answered = number;
        self.answered_chain = pending.chain;
        let completion = Completion {
            scheduled_us: pending.scheduled_us,
            sent_us: pending.sent_us,
            first_byte_us: self.receiving.first_byte_us,
            done_us: now_us,
        };
        self.pending.pop_front();
        Ok(completion)
    }
}

#[cfg(test)]
#[path = "http_session_tests.rs"]
mod tests;
