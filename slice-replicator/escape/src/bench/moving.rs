//! What a client notices of a move of its live session.
//!
//! One client with one request in flight, without a pause, while its session is moved from one node to the other and back.
//! A move's gap is the longest request that was under way during it or just after it. Beside it, what the owner tells: how long the
//! slice was at rest, and how long of that the store took (the compare-and-swap).

use super::cells::start;
use super::error::BenchError;
use super::moving_report::{Move, MovingReport};
use super::requests::Requests;
use crate::cell::{CellPlan, LocalCell};
use escape_proto::{MoveAnswer, MoveWhat, OperatorReply, OperatorRequest};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const WHICH: &str = "cell with a standby";
/// Bytes of the session that each request changes.
const CHANGED: usize = 512;
/// Between two moves: the new owner's own standby has all of the slice long before.
const PAUSE: Duration = Duration::from_millis(20);
/// A move is over for the client when it was answered this long after it.
const AFTER: Duration = Duration::from_millis(10);
/// A move that cannot be made at this moment is tried again so often.
const TRIES_MAX: u32 = 200;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct MovingPlan {
    /// Moves.
    pub moves: u32,
}

/// A request: when it was sent, and when its answer was there.
#[derive(Clone, Copy, Debug)]
struct Exchange {
    sent: Instant,
    answered: Instant,
}

/// Measures.
///
/// # Errors
/// What could not be set up, a wrong answer, or a session that does not move.
pub fn measure_moving(plan: MovingPlan) -> Result<MovingReport, BenchError> {
    let cell = start(WHICH, CellPlan { nodes: 2, ..CellPlan::new(16) })?;
    let mut requests = Requests::connect(cell.service_addresses().http, crate::drill::Cell::client_namespace(&cell))?;
    let session = session_of(requests.client()?)?;
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut exchanges = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let sent = Instant::now();
                requests.dirty(CHANGED, 1, &mut Vec::new())?;
                exchanges.push(Exchange { sent, answered: Instant::now() });
            }
            Ok::<_, BenchError>(exchanges)
        });
        let moves = (0..plan.moves).map(|_| one_move(&cell, session)).collect::<Result<Vec<_>, _>>();
        over.store(true, Ordering::Relaxed);
        let exchanges = client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(MovingReport::new(moves?.into_iter().map(|told| told.with_gap(&exchanges)).collect(), lengths(&exchanges)))
    })
}

/// A move, as it was told.
struct Told {
    begun: Instant,
    ended: Instant,
    frozen_us: u64,
    recorded_us: u64,
}

impl Told {
    fn with_gap(&self, exchanges: &[Exchange]) -> Move {
        let until = self.ended + AFTER;
        let concerned = exchanges.iter().filter(|e| e.answered >= self.begun && e.sent <= until);
        let gap = concerned.map(|e| e.answered - e.sent).max().unwrap_or_default();
        Move { gap_us: us(gap), frozen_us: self.frozen_us, recorded_us: self.recorded_us }
    }
}

fn one_move(cell: &LocalCell, session: MoveWhat) -> Result<Told, BenchError> {
    std::thread::sleep(PAUSE);
    let wrong = |detail: String| BenchError::Answer { what: "a move".into(), detail };
    for _ in 0..TRIES_MAX {
        let begun = Instant::now();
        let reply = cell.ask_as_operator(OperatorRequest::Move { what: session, to: None });
        match reply.map_err(|e| wrong(e.to_string()))? {
            OperatorReply::Move(MoveAnswer::Moved { frozen_us, recorded_us, .. }) => {
                return Ok(Told { begun, ended: Instant::now(), frozen_us, recorded_us });
            }
            OperatorReply::Move(MoveAnswer::Refused { again: true, .. }) => std::thread::sleep(PAUSE),
            other => return Err(wrong(format!("{other:?}"))),
        }
    }
    Err(wrong(format!("refused {TRIES_MAX} times")))
}

fn session_of(client: SocketAddr) -> Result<MoveWhat, BenchError> {
    match client.ip() {
        IpAddr::V4(ip) => Ok(MoveWhat::Client { ip: ip.octets(), port: client.port() }),
        IpAddr::V6(_) => Err(BenchError::Answer { what: "the client".into(), detail: format!("{client} is not IPv4") }),
    }
}

fn lengths(exchanges: &[Exchange]) -> Vec<u64> {
    exchanges.iter().map(|e| us(e.answered - e.sent)).collect()
}

fn us(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
